//! A second, deliberately plain implementation of the losses, against every combination of switches.

use super::fixtures::{TARGET, batch};
use crate::objective::{
    Advantage, Aggregate, Anchor, Clip, Combine, CombineRule, Completion, Denominator, Duplicates, Estimator, Group,
    Kl, KlKind, Mask, Normalise, ObjectiveConfig, Simpo, Surrogate, evaluate,
};
use proptest::{prelude::*, sample::select};

/// Any combination of the switches, with numbers that make each of them matter.
fn config() -> impl Strategy<Value = ObjectiveConfig> {
    let policy = (
        select(vec![Surrogate::Grpo, Surrogate::Reinforce, Surrogate::Cispo]),
        select(vec![Aggregate::TokenMean, Aggregate::SequenceMeanTokenMean, Aggregate::SequenceMeanTokenSum]),
        select(vec![None, Some(Clip { low: 0.1, high: 0.3 })]),
        select(vec![Normalise::GroupStd, Normalise::BatchStd, Normalise::None]),
    );
    let mask = (0.0..1.0, select(vec![Denominator::Weight, Denominator::Count]));
    let kl = (
        select(vec![KlKind::None, KlKind::Cov, KlKind::Global]),
        0.0..0.5,
        select(vec![Anchor::Reference, Anchor::Behaviour]),
        select(vec![Estimator::K3, Estimator::Abs]),
        any::<bool>(),
    );
    let rest = (
        select(vec![Duplicates::Collapse, Duplicates::Keep]),
        select(vec![CombineRule::ByGroup, CombineRule::SumOfMeans]),
    );
    (policy, mask, kl, rest).prop_map(|(policy, (decay, denominator), kl, (duplicates, rule))| {
        let (surrogate, aggregate, clip, normalise) = policy;
        let (kind, fraction, anchor, estimator, exclude_forced) = kl;
        ObjectiveConfig {
            surrogate,
            aggregate,
            clip,
            advantage: Advantage { normalise, epsilon: 1e-2 },
            mask: Mask { decay, denominator },
            kl: Kl { kind, fraction, coefficient: 0.4, anchor, estimator, exclude_forced },
            simpo: Simpo { beta: 1.7, gamma: 0.4, duplicates },
            combine: Combine { rule, policy_weight: 0.8, simpo_weight: 0.6 },
            target_only: None,
        }
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    (values.iter().map(|value| (value - mean(values)).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)).sqrt()
}

fn weights(config: &ObjectiveConfig, children: &[u32]) -> Vec<f64> {
    children.iter().map(|&count| if count == 1 { config.mask.decay } else { 1.0 }).collect()
}

fn denominator(config: &ObjectiveConfig, children: &[u32]) -> f64 {
    match config.mask.denominator {
        Denominator::Weight => weights(config, children).iter().sum(),
        Denominator::Count => children.len() as f64,
    }
}

/// `(advantage, completion)` of every completion of a passing group.
fn advantages<'a>(config: &ObjectiveConfig, groups: &'a [Group]) -> Vec<(f64, &'a Completion)> {
    let rewards = |group: &Group| group.completions.iter().map(|it| it.reward).collect::<Vec<f64>>();
    let all: Vec<f64> = groups.iter().flat_map(rewards).collect();
    let passing = groups.iter().filter(|group| group.completions.iter().any(|it| it.item == TARGET));
    passing
        .flat_map(|group| {
            let rewards = rewards(group);
            let scale = match config.advantage.normalise {
                Normalise::GroupStd => deviation(&rewards) + config.advantage.epsilon,
                Normalise::BatchStd => deviation(&all) + config.advantage.epsilon,
                Normalise::None => 1.0,
            };
            group.completions.iter().map(move |it| ((it.reward - mean(&rewards)) / scale, it))
        })
        .collect()
}

fn surrogate(config: &ObjectiveConfig, advantage: f64, logprob: f64, behaviour: f64) -> f64 {
    let ratio = (logprob - behaviour).exp();
    let clipped = match config.clip {
        Some(Clip { low, high }) => ratio.max(1.0 - low).min(1.0 + high),
        None => ratio,
    };
    match config.surrogate {
        Surrogate::Grpo => (ratio * advantage).min(clipped * advantage),
        Surrogate::Reinforce => advantage * logprob,
        Surrogate::Cispo => clipped * advantage * logprob,
    }
}

/// The covariance a token must reach to be penalised.
fn threshold(config: &ObjectiveConfig, covariance: impl Fn(f64, f64) -> f64, tokens: &[(f64, f64)]) -> f64 {
    let mut ranked: Vec<f64> = tokens.iter().map(|&(advantage, logprob)| covariance(advantage, logprob)).collect();
    ranked.sort_by(|a, b| b.partial_cmp(a).unwrap());
    let count = (tokens.len() as f64 * config.kl.fraction) as usize;
    ranked[count.max(1) - 1]
}

fn policy_loss(config: &ObjectiveConfig, groups: &[Group]) -> f64 {
    let completions = advantages(config, groups);
    let is_candidate = |children: u32| !(config.kl.exclude_forced && children == 1);
    let mut candidates = Vec::new();
    for (advantage, it) in &completions {
        let tokens = it.logprob.iter().zip(&it.children).filter(|(_, children)| is_candidate(**children));
        candidates.extend(tokens.map(|(logprob, _)| (*advantage, *logprob)));
    }
    let mean_advantage = mean(&candidates.iter().map(|token| token.0).collect::<Vec<_>>());
    let mean_logprob = mean(&candidates.iter().map(|token| token.1).collect::<Vec<_>>());
    let covariance = |advantage: f64, logprob: f64| (advantage - mean_advantage) * (logprob - mean_logprob);
    let threshold = threshold(config, covariance, &candidates);
    let (mut sums, mut denominators) = (Vec::new(), Vec::new());
    for (advantage, it) in &completions {
        let weights = weights(config, &it.children);
        let mut sum = 0.0;
        for (t, &logprob) in it.logprob.iter().enumerate() {
            let anchor = match config.kl.anchor {
                Anchor::Reference => it.reference_logprob[t],
                Anchor::Behaviour => it.behaviour_logprob[t],
            };
            let divergence = match config.kl.estimator {
                Estimator::K3 => (anchor - logprob).exp() - (anchor - logprob) - 1.0,
                Estimator::Abs => (logprob - anchor).abs(),
            };
            let is_penalised = match config.kl.kind {
                KlKind::None => false,
                KlKind::Global => true,
                KlKind::Cov => is_candidate(it.children[t]) && covariance(*advantage, logprob) >= threshold,
            };
            let penalty = if is_penalised { config.kl.coefficient * divergence } else { 0.0 };
            sum += weights[t] * (penalty - surrogate(config, *advantage, logprob, it.behaviour_logprob[t]));
        }
        sums.push(sum);
        denominators.push(denominator(config, &it.children));
    }
    match config.aggregate {
        Aggregate::TokenMean => sums.iter().sum::<f64>() / denominators.iter().sum::<f64>(),
        Aggregate::SequenceMeanTokenMean => {
            mean(&sums.iter().zip(denominators).map(|(sum, denominator)| sum / denominator).collect::<Vec<_>>())
        }
        Aggregate::SequenceMeanTokenSum => mean(&sums),
    }
}

fn simpo_loss(config: &ObjectiveConfig, groups: &[Group]) -> f64 {
    let score = |logprob: &[f64], children: &[u32]| {
        let weighted: f64 =
            weights(config, children).iter().zip(logprob).map(|(weight, logprob)| weight * logprob).sum();
        weighted / denominator(config, children)
    };
    let mut of_groups = Vec::new();
    for Group { completions, target } in groups.iter().filter(|it| it.completions.iter().all(|it| it.item != TARGET)) {
        let mut items = Vec::new();
        let mut losses = Vec::new();
        for it in completions {
            if config.simpo.duplicates == Duplicates::Collapse && items.contains(&it.item) {
                continue;
            }
            items.push(it.item);
            let difference = score(&target.logprob, &target.children) - score(&it.logprob, &it.children);
            let sigmoid = 1.0 / (1.0 + (config.simpo.gamma - config.simpo.beta * difference).exp());
            losses.push(-sigmoid.ln());
        }
        of_groups.push(mean(&losses));
    }
    mean(&of_groups)
}

proptest! {
    #[test]
    fn every_combination_of_switches_means_what_it_says(config in config(), seed in any::<u64>()) {
        // of 5 groups the fixture lets 3 pass and 2 fail
        let groups = batch(seed, 5, 6);
        let outcome = evaluate(&config, &groups).unwrap();
        let (policy, simpo) = (policy_loss(&config, &groups), simpo_loss(&config, &groups));
        prop_assert!((outcome.policy_loss - policy).abs() < 1e-10, "{} vs {policy}", outcome.policy_loss);
        prop_assert!((outcome.simpo_loss - simpo).abs() < 1e-10, "{} vs {simpo}", outcome.simpo_loss);
        let total = match config.combine.rule {
            CombineRule::ByGroup => 0.8 * 0.6 * policy + 0.6 * 0.4 * simpo,
            CombineRule::SumOfMeans => 0.8 * policy + 0.6 * simpo,
        };
        prop_assert!((outcome.loss - total).abs() < 1e-10, "{} vs {total}", outcome.loss);
    }
}
