//! Numbers worked out elsewhere.

use super::fixtures::{TARGET, batch, one_token_group};
use crate::logprob_space::LogprobSpace;
use crate::objective::{Anchor, Estimator, KlKind, Preset, TargetOnly, evaluate};

fn close(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{got} vs {expected}");
}

#[test]
fn advantages_of_sixteen_rollouts_have_the_published_values() {
    // method 1.2: sample standard deviation
    let mut config = Preset::Riser.config(LogprobSpace::Vocabulary);
    config.advantage.epsilon = 0.0;
    for (num_hits, hit, miss) in [(1, 3.75, -0.25), (2, 2.5617, -0.3660), (4, 1.6771, -0.5590), (8, 0.9682, -0.9682)] {
        let completions: Vec<_> =
            (0..16).map(|i| if i < num_hits { (TARGET, 1.0, -1.0) } else { (i, -1.0, -2.0) }).collect();
        let group = one_token_group(&completions, (TARGET, -1.0), 20);
        let advantages = evaluate(&config, &[group]).unwrap().advantages[0].clone().unwrap();
        close(advantages[0], hit, 5e-5);
        close(advantages[15], miss, 5e-5);
    }
}

#[test]
fn kl_cov_of_its_authors_is_inert_on_policy() {
    let mut config = Preset::Riser.config(LogprobSpace::Vocabulary);
    config.clip = None;
    (config.kl.anchor, config.kl.estimator, config.kl.coefficient) = (Anchor::Behaviour, Estimator::Abs, 1.0);
    config.kl.fraction = 0.2;
    let mut groups = batch(3, 6, 8);
    let off_policy = evaluate(&config, &groups).unwrap();
    assert!(off_policy.kl_penalty > 0.0);
    for completion in groups.iter_mut().flat_map(|group| &mut group.completions) {
        completion.behaviour_logprob.clone_from(&completion.logprob);
    }
    let with = evaluate(&config, &groups).unwrap();
    config.kl.kind = KlKind::None;
    let without = evaluate(&config, &groups).unwrap();
    assert!(!with.kl_selected.is_empty());
    assert_eq!((with.kl_penalty, with.loss, with.gradient), (0.0, without.loss, without.gradient));
}

#[test]
fn target_only_losses_keep_their_digits_at_hopeless_targets() {
    let group = one_token_group(&[], (TARGET, -60.0), 20);
    let at = |kappa: f64| {
        let mut config = Preset::ExactGradient.config(LogprobSpace::Catalog);
        config.target_only = Some(TargetOnly { kappa });
        let outcome = evaluate(&config, std::slice::from_ref(&group)).unwrap();
        assert_eq!(outcome.loss, outcome.target_loss);
        (outcome.loss, outcome.target_gradient[0][0])
    };
    assert_eq!(at(0.0), (60.0, -1.0));
    assert_eq!(at(1.0), (1.0, -(-60.0f64).exp()));
    // a tiny kappa meets its limit instead of losing it to cancellation
    close(at(1e-13).0, 60.0, 1e-9);
    close(at(0.5).0, 2.0 * (1.0 - (-30.0f64).exp()), 1e-15);
}
