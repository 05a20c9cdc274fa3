use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Small random catalogs with an end token, and how often each item was chosen.
fn catalogs() -> impl Strategy<Value = (Vec<Vec<u32>>, Vec<usize>)> {
    prop::collection::vec((prop::collection::vec(1_u32..5, 1..6), 0_usize..9), 1..40).prop_map(|items| {
        let spelled = items.iter().map(|(item, _)| [item.as_slice(), &[0]].concat());
        (spelled.collect(), items.iter().map(|(_, count)| *count).collect())
    })
}

/// Entropy over the spellings that begin with `prefix`, from the list of all of them.
fn listed(weights: &BTreeMap<Vec<u32>, f64>, prefix: &[u32]) -> f64 {
    let below: Vec<f64> = weights.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, w)| *w).collect();
    let total: f64 = below.iter().sum();
    -below.iter().map(|weight| weight / total).map(|p| p * p.ln()).sum::<f64>()
}

fn choices(counts: &[usize]) -> impl Iterator<Item = ItemIndex> + '_ {
    counts.iter().enumerate().flat_map(|(item, &count)| std::iter::repeat_n(ItemIndex(item as u32), count))
}

proptest! {
    #[test]
    fn gains_are_differences_of_entropies_over_the_listed_items((paths, counts) in catalogs(), smoothing in 0.01f64..3.0) {
        let tree = PrefixTree::build(&paths).unwrap();
        let uniform: BTreeMap<Vec<u32>, f64> = paths.iter().map(|path| (path.clone(), 1.0)).collect();
        let mut popular: BTreeMap<Vec<u32>, f64> = paths.iter().map(|path| (path.clone(), smoothing)).collect();
        paths.iter().zip(&counts).for_each(|(path, &count)| *popular.get_mut(path).unwrap() += count as f64);
        let popularity = Popularity::count(&tree, choices(&counts), smoothing);
        for (prior, weights) in [(ItemPrior::Uniform, uniform), (ItemPrior::Popularity(popularity), popular)] {
            for path in &paths {
                let nodes = tree.nodes_to(tree.walk(path).unwrap());
                let gains = prior.gains(&tree, &nodes);
                prop_assert_eq!(gains.len(), path.len());
                for (t, gain) in gains.iter().enumerate() {
                    let expected = listed(&weights, &path[..t]) - listed(&weights, &path[..=t]);
                    prop_assert!((gain - expected).abs() < 1e-9, "{:?} at {t}: {gain} vs {expected}", path);
                    prop_assert!(tree.num_children(nodes[t]) > 1 || *gain == 0.0);
                }
                let (sum, entropy) = (gains.iter().sum::<f64>(), prior.entropy(&tree, PrefixTree::ROOT));
                prop_assert!((sum - entropy).abs() < 1e-9, "{sum} vs {entropy}");
            }
        }
    }

    #[test]
    fn the_expected_gain_at_a_node_is_the_entropy_of_the_choice_there((paths, counts) in catalogs()) {
        // The chain rule of method 1.8, with the expectation over the children taken by the prior itself.
        let tree = PrefixTree::build(&paths).unwrap();
        let mut weights: BTreeMap<Vec<u32>, f64> = paths.iter().map(|path| (path.clone(), 0.5)).collect();
        paths.iter().zip(&counts).for_each(|(path, &count)| *weights.get_mut(path).unwrap() += count as f64);
        let prior = ItemPrior::Popularity(Popularity::count(&tree, choices(&counts), 0.5));
        let below = |prefix: &[u32]| weights.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, w)| w).sum::<f64>();
        for path in &paths {
            for t in 0..path.len() {
                let (node, prefix) = (tree.walk(&path[..t]).unwrap(), &path[..t]);
                let (mut expected, mut entropy) = (0.0, 0.0);
                for (k, &token) in tree.children(node).tokens.iter().enumerate() {
                    let p = below(&[prefix, &[token]].concat()) / below(prefix);
                    expected += p * prior.gains(&tree, &[node, tree.children(node).node(k)])[0];
                    entropy -= p * p.ln();
                }
                prop_assert!((expected - entropy).abs() < 1e-9, "{expected} vs {entropy}");
            }
        }
    }

    #[test]
    fn shares_of_a_path_lie_between_0_and_1_and_sum_to_1((paths, counts) in catalogs()) {
        let tree = PrefixTree::build(&paths).unwrap();
        let popularity = ItemPrior::Popularity(Popularity::count(&tree, choices(&counts), 0.1));
        for prior in [ItemPrior::Uniform, popularity] {
            for path in &paths {
                let shares = shares_of_gains(prior.gains(&tree, &tree.nodes_to(tree.walk(path).unwrap())));
                prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
                let expected = if tree.num_leaves() == 1 { 0.0 } else { 1.0 };
                prop_assert!((shares.iter().sum::<f64>() - expected).abs() < 1e-12, "{shares:?}");
            }
        }
    }
}

#[test]
fn a_choice_between_a_hit_and_many_unknowns_can_lose_information() {
    // One item of weight 1000 beside four of weight 1: whoever goes to the four knows less than before.
    let paths: Vec<Vec<u32>> = [vec![1, 0], vec![2, 3, 0], vec![2, 4, 0], vec![2, 5, 0], vec![2, 6, 0]].into();
    let tree = PrefixTree::build(&paths).unwrap();
    let chosen = std::iter::repeat_n(ItemIndex(0), 999);
    let prior = ItemPrior::Popularity(Popularity::count(&tree, chosen, 1.0));
    let gains = prior.gains(&tree, &tree.nodes_to(tree.leaf_of(ItemIndex(1))));
    assert!(gains[0] < -1.3 && (gains[1] - 4.0f64.ln()).abs() < 1e-12, "{gains:?}");
    assert_eq!(shares_of_gains(gains), [0.0, 1.0, 0.0]);
}

#[test]
fn shares_of_the_policy_are_bounded_and_vanish_with_its_uncertainty() {
    assert_eq!(shares_of_entropies(vec![1.0, 0.0, 0.5, 9.0], 2.0), [0.5, 0.0, 0.25, 1.0]);
    assert_eq!(shares_of_entropies(vec![0.0, 0.0], 0.0), [0.0, 0.0]);
    // What a worker says is not to be believed blindly.
    assert_eq!(shares_of_entropies(vec![1.0], -1.0), [0.0]);
}
