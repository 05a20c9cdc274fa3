//! Batches at the edge of what is allowed, and beyond.

use super::fixtures::{TARGET, batch, one_token_group};
use crate::logprob_space::LogprobSpace::{Catalog, Vocabulary};
use crate::objective::{Aggregate, Clip, Denominator, Group, Level, MaskLaw, ObjectiveError, Place, Preset, evaluate};

fn riser_error(change: impl FnOnce(&mut Vec<Group>)) -> ObjectiveError {
    let mut groups = batch(1, 4, 4);
    change(&mut groups);
    evaluate(&Preset::Riser.config(Vocabulary), &groups).unwrap_err()
}

#[test]
fn without_passing_groups_the_policy_loss_is_zero_and_without_failing_ones_the_preference_loss() {
    let config = Preset::Riser.config(Vocabulary);
    let groups = batch(2, 6, 4);
    let (passing, failing): (Vec<_>, Vec<_>) = groups.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let strip = |groups: Vec<(usize, Group)>| groups.into_iter().map(|(_, group)| group).collect::<Vec<_>>();
    let passed = evaluate(&config, &strip(passing)).unwrap();
    assert_eq!((passed.failed.len(), passed.simpo_loss, passed.pairs), (0, 0.0, 0));
    assert_eq!(passed.loss, passed.policy_loss);
    let failed = evaluate(&config, &strip(failing)).unwrap();
    assert_eq!((failed.passed.len(), failed.policy_loss, failed.kl_selected.len()), (0, 0.0, 0));
    assert_eq!(failed.loss, failed.simpo_loss);
}

#[test]
fn an_all_hit_group_dilutes_the_batch_and_teaches_nothing() {
    let config = Preset::Riser.config(Vocabulary);
    let mut groups = batch(2, 2, 4);
    let before = evaluate(&config, &groups).unwrap();
    groups.push(one_token_group(&[(TARGET, 1.0, -1.0), (TARGET, 1.0, -1.0)], (TARGET, -1.0), 9));
    let after = evaluate(&config, &groups).unwrap();
    assert_eq!(after.all_hit, [2]);
    assert!((after.loss - before.loss * 2.0 / 3.0).abs() < 1e-15);
    assert_eq!((&after.gradient[2], &after.target_gradient[2]), (&vec![vec![0.0]; 2], &vec![0.0]));
    assert_eq!(after.diagnostics.all_hit_share, 1.0 / 3.0);
}

#[test]
fn a_batch_of_forced_tokens_only_weighs_nothing_in_catalog_space() {
    let pass = one_token_group(&[(TARGET, 1.0, 0.0), (1, -1.0, 0.0)], (TARGET, 0.0), 1);
    let fail = one_token_group(&[(1, -1.0, 0.0), (2, -1.0, 0.0)], (TARGET, 0.0), 1);
    let mut config = Preset::Riser.config(Catalog);
    for aggregate in [Aggregate::TokenMean, Aggregate::SequenceMeanTokenMean, Aggregate::SequenceMeanTokenSum] {
        for denominator in [Denominator::Weight, Denominator::Count] {
            (config.aggregate, config.mask.denominator) = (aggregate, denominator);
            let outcome = evaluate(&config, &[pass.clone(), fail.clone()]).unwrap();
            assert_eq!((outcome.policy_loss, outcome.kl_selected.len()), (0.0, 0));
            assert!(outcome.gradient.iter().flatten().flatten().all(|&entry| entry == 0.0));
        }
    }
}

#[test]
fn a_target_may_be_left_out_where_the_preference_loss_has_no_weight() {
    let mut groups = batch(4, 4, 4);
    groups.iter_mut().for_each(|group| group.target.logprob.clear());
    let outcome = evaluate(&Preset::Grpo.config(Vocabulary), &groups).unwrap();
    assert_eq!((outcome.simpo_loss, outcome.pairs, outcome.failed.len()), (0.0, 0, 2));
    let error = evaluate(&Preset::Riser.config(Vocabulary), &groups).unwrap_err();
    assert!(matches!(error, ObjectiveError::Length { place: Place::Target { group: 1 }, got: 0, .. }), "{error}");
}

#[test]
fn a_missing_reference_is_named_with_its_place_and_lengths() {
    let error = riser_error(|groups| groups[2].completions[3].reference_logprob.clear());
    let num_tokens = batch(1, 4, 4)[2].completions[3].children.len();
    let expected = format!(
        "group 2, completion 3: `reference_logprob` has 0 entries: expected {num_tokens}, one per entry of `children`"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_bad_batch_is_refused_with_its_place() {
    let place = Place::Completion { group: 1, completion: 2 };
    assert_eq!(riser_error(Vec::clear), ObjectiveError::EmptyBatch);
    assert_eq!(riser_error(|groups| groups[1].completions.clear()), ObjectiveError::EmptyGroup { group: 1 });
    assert_eq!(
        riser_error(|groups| groups[1].completions[2].children.clear()),
        ObjectiveError::EmptySequence { place }
    );
    assert_eq!(
        riser_error(|groups| groups[1].completions[2].children[1] = 0),
        ObjectiveError::NoChildren { place, token: 1 }
    );
    assert_eq!(
        riser_error(|groups| groups[1].completions[2].reward = f64::INFINITY),
        ObjectiveError::RewardNotFinite { place, value: f64::INFINITY }
    );
    assert_eq!(
        riser_error(|groups| groups[1].completions[2].logprob[1] = f64::NEG_INFINITY),
        ObjectiveError::TokenNotFinite { place, field: "logprob", token: 1, value: f64::NEG_INFINITY }
    );
    let error = riser_error(|groups| groups[0].target.logprob[0] = f64::NAN);
    assert!(matches!(error, ObjectiveError::TokenNotFinite { place: Place::Target { group: 0 }, token: 0, .. }));
}

#[test]
fn information_and_nodes_are_asked_for_where_they_count_and_refused_where_they_are_wrong() {
    let mut groups = batch(1, 4, 4);
    let mut config = Preset::Riser.config(Vocabulary);
    (config.mask.law, config.advantage.level) = (MaskLaw::InformationGain, Level::Node);
    evaluate(&config, &groups).unwrap();
    groups[1].completions[2].node.clear(); // a failing group compares no siblings
    evaluate(&config, &groups).unwrap();
    groups[0].completions[2].node.clear();
    let num_tokens = groups[0].completions[2].children.len();
    let expected = |field| {
        format!("group 0, completion 2: `{field}` has 0 entries: expected {num_tokens}, one per entry of `children`")
    };
    assert_eq!(evaluate(&config, &groups).unwrap_err().to_string(), expected("node"));
    groups[0].completions[2].information.clear();
    config.advantage.level = Level::Sequence;
    assert_eq!(evaluate(&config, &groups).unwrap_err().to_string(), expected("information"));
    let mut groups = batch(1, 4, 4);
    groups[1].target.information[1] = 1.5;
    let error = evaluate(&config, &groups).unwrap_err().to_string();
    assert_eq!(error, "group 1, target: `information` of token 1 is 1.5: expected a number from 0 to 1");
    config.mask.law = MaskLaw::Certainty;
    evaluate(&config, &groups).unwrap();
}

#[test]
fn a_ratio_that_overflows_is_an_error_and_not_a_poisoned_gradient() {
    let mut config = Preset::Riser.config(Vocabulary);
    config.clip = None;
    let mut groups = batch(1, 4, 4);
    groups[0].completions[3].behaviour_logprob[0] = -2000.0;
    let error = evaluate(&config, &groups).unwrap_err();
    assert!(matches!(error, ObjectiveError::ResultNotFinite { .. }), "{error}");
}

#[test]
fn a_setting_out_of_range_is_named() {
    let mut config = Preset::Riser.config(Vocabulary);
    config.clip = Some(Clip { low: 1.5, high: 0.2 });
    assert_eq!(config.validate().unwrap_err().to_string(), "`clip.low` is 1.5: expected a number from 0 to 1");
    config = Preset::Riser.config(Vocabulary);
    config.simpo.beta = 0.0;
    assert_eq!(config.validate().unwrap_err().to_string(), "`simpo.beta` is 0: expected a finite number above 0");
    config = Preset::Riser.config(Vocabulary);
    config.mask.smoothing = 0.0;
    assert_eq!(config.validate().unwrap_err().to_string(), "`mask.smoothing` is 0: expected a finite number above 0");
    config = Preset::Riser.config(Vocabulary);
    config.combine.simpo_weight = f64::NAN;
    assert!(config.validate().is_err());
}

#[test]
fn diagnostics_count_by_hand() {
    let mut group =
        one_token_group(&[(TARGET, 1.0, -1.0), (1, -1.0, -2.0), (2, -1.0, -3.0), (3, -1.0, -4.0)], (TARGET, -1.0), 9);
    group.completions[0].behaviour_logprob[0] = -1.5; // a hit that grew: ratio 1.65, clipped
    group.completions[1].behaviour_logprob[0] = -1.9;
    group.completions[0].children[0] = 1; // advantages 1.5, -0.5: the hit has the highest covariance
    group.completions[3].reference_logprob[0] = -5.0;
    let fail = one_token_group(&[(1, -1.0, -2.0); 4], (TARGET, -1.0), 9);
    let diagnostics = evaluate(&Preset::Riser.config(Vocabulary), &[group, fail]).unwrap().diagnostics;
    let close = |got: Option<f64>, expected: f64| assert!((got.unwrap() - expected).abs() < 1e-12, "{got:?}");
    close(diagnostics.mean_reward, -0.75);
    assert_eq!((diagnostics.pass_share, diagnostics.all_miss_share, diagnostics.all_hit_share), (0.5, 0.5, 0.0));
    assert_eq!((diagnostics.clip_fraction, diagnostics.kl_cov_fraction), (0.25, 0.25));
    assert_eq!(diagnostics.kl_cov_forced_share, 1.0);
    close(diagnostics.mean_ratio, (0.5f64.exp() + (-0.1f64).exp() + 6.0) / 8.0);
    close(diagnostics.mismatch_mean, 0.6 / 8.0);
    close(diagnostics.mismatch_max, 0.5);
    close(diagnostics.anchor_kl, (-1.0f64).exp() / 8.0);
}
