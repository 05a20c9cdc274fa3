use super::*;
use crate::{
    exact::item_logprobs,
    parameters::Parameters,
    testing::{tiny_catalog, tiny_items, tiny_shape},
};
use candle_core::Device;
use riser_core::{digest::Digest, group::GroupLimits, ids::PolicyVersion};
use statrs::distribution::{ChiSquared, ContinuousCDF};

fn settings(space: LogprobSpace, samples: usize, group: usize) -> RolloutSettings {
    RolloutSettings::new(Seed(5), space, samples, group)
}

fn request(id: u64, prompt: &[u32]) -> RolloutRequest {
    RolloutRequest { id: GroupId(id), row: RowId(0), prompt: prompt.to_vec(), target: ItemIndex(id as u32 % 10) }
}

fn identity(version: u64) -> PolicyIdentity {
    PolicyIdentity { version: PolicyVersion(version), digest: Digest::of(b"the policy in hand") }
}

fn inference() -> Inference {
    Parameters::initialise(&tiny_shape(), Seed(1), &Device::Cpu).unwrap().inference().unwrap()
}

#[test]
fn sampled_items_follow_the_exact_distribution_of_brute_force_enumeration() {
    let (inference, catalog) = (inference(), tiny_catalog());
    let prompt = [1, 9, 4, 17];
    let samples = 20_000;
    let settings = settings(LogprobSpace::Catalog, samples, samples);
    let groups = rollout(&inference, &catalog, identity(0), &[request(3, &prompt)], &settings).unwrap();
    let exact = item_logprobs(inference.model(), &catalog, &prompt, LogprobSpace::Catalog, 1.0).unwrap();
    // Items 2 and 8 are spelled alike: one leaf, one cell.
    let leaves: std::collections::BTreeSet<NodeId> = (0..10).map(|item| catalog.leaf_of(ItemIndex(item))).collect();
    let mut statistic = 0.0;
    for &leaf in &leaves {
        let p = f64::from(exact[catalog.items_at(leaf)[0].0 as usize]).exp();
        let node = |completion: &Completion| groups[0].subtree.node[completion.leaf as usize];
        let observed = groups[0].completions.iter().filter(|completion| node(completion) == leaf).count() as f64;
        let expected = p * samples as f64;
        assert!(expected > 5.0, "the test needs every item to be drawn now and then, not {expected}");
        statistic += (observed - expected).powi(2) / expected;
    }
    let p_value = 1.0 - ChiSquared::new(leaves.len() as f64 - 1.0).unwrap().cdf(statistic);
    assert!(p_value > 0.001, "chi-square {statistic} has p = {p_value}");
}

#[test]
fn every_group_is_valid_and_its_logprobs_are_those_of_a_plain_forward_pass() {
    let (inference, catalog) = (inference(), tiny_catalog());
    let requests: Vec<_> =
        [&[1, 9, 4][..], &[1, 3], &[1, 20, 21, 22, 6]].iter().zip(0..).map(|(p, i)| request(i, p)).collect();
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        let settings = settings(space, 20, 16);
        let groups = rollout(&inference, &catalog, identity(2), &requests, &settings).unwrap();
        for (group, request) in groups.iter().zip(&requests) {
            group.validate(&catalog, &GroupLimits::default()).unwrap();
            assert_eq!((group.version, group.policy), (identity(2).version, identity(2).digest));
            let exact = item_logprobs(inference.model(), &catalog, &request.prompt, space, 1.0).unwrap();
            for completion in &group.completions {
                let walked: f32 = group
                    .subtree
                    .path(completion.leaf)
                    .iter()
                    .map(|&entry| group.subtree.logprob[entry as usize])
                    .sum();
                let expected = exact[completion.item.0 as usize];
                assert!((walked - expected).abs() < 1e-4, "{walked} instead of {expected} in {space} space");
                assert_eq!(completion.reward > 0.0, catalog.leaf_of(completion.item) == catalog.leaf_of(group.target));
            }
        }
    }
}

#[test]
fn draws_do_not_depend_on_what_is_sampled_beside_them() {
    let (inference, catalog) = (inference(), tiny_catalog());
    let settings = settings(LogprobSpace::Catalog, 20, 16);
    let (a, b) = (request(3, &[1, 9, 4]), request(4, &[1, 3]));
    let together = rollout(&inference, &catalog, identity(0), &[a, b.clone()], &settings).unwrap();
    let alone = rollout(&inference, &catalog, identity(0), &[b], &settings).unwrap();
    let items = |group: &RolloutGroup| group.completions.iter().map(|completion| completion.item).collect::<Vec<_>>();
    assert_eq!(items(&together[1]), items(&alone[0]));
}

#[test]
fn the_estimated_item_entropy_agrees_with_the_exact_one() {
    let (inference, catalog) = (inference(), tiny_catalog());
    let prompt = [1, 9, 4, 17];
    let settings = settings(LogprobSpace::Catalog, 5_000, 5_000);
    let group = rollout(&inference, &catalog, identity(0), &[request(3, &prompt)], &settings).unwrap().remove(0);
    let exact = item_logprobs(inference.model(), &catalog, &prompt, LogprobSpace::Catalog, 1.0).unwrap();
    // Item 8 shares its leaf with item 2 and would be counted twice.
    let exact: f32 = exact[..8].iter().chain(&exact[9..]).map(|logprob| -logprob.exp() * logprob).sum();
    assert!((group.stats.item_entropy - exact).abs() < 0.05, "{} instead of {exact}", group.stats.item_entropy);
    assert_eq!(tiny_items()[2], tiny_items()[8]);
}

#[test]
fn a_catalog_of_one_spelling_needs_no_choice() {
    let catalog = PrefixTree::build(&[vec![5, 6, 2]]).unwrap();
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        let mut request = request(0, &[1, 9]);
        request.target = ItemIndex(0);
        let groups = rollout(&inference(), &catalog, identity(0), &[request], &settings(space, 4, 2)).unwrap();
        groups[0].validate(&catalog, &GroupLimits::default()).unwrap();
        assert_eq!(groups[0].unique, 1);
    }
}
