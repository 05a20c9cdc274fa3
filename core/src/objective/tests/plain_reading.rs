//! A second, deliberately plain implementation of the losses, against every combination of switches.

use super::fixtures::{TARGET, batch};
use crate::objective::{
    Advantage, Aggregate, Anchor, Clip, Combine, CombineRule, Completion, Denominator, Duplicates, Estimator, Group,
    Kl, KlKind, Level, Mask, MaskLaw, Normalise, ObjectiveConfig, Simpo, Source, Surrogate, evaluate,
};
use proptest::{prelude::*, sample::select};

/// Any combination of the switches, with numbers that make each of them matter.
fn config() -> impl Strategy<Value = ObjectiveConfig> {
    let policy = (
        select(vec![Surrogate::Grpo, Surrogate::Reinforce, Surrogate::Cispo]),
        select(vec![Aggregate::TokenMean, Aggregate::SequenceMeanTokenMean, Aggregate::SequenceMeanTokenSum]),
        select(vec![None, Some(Clip { low: 0.1, high: 0.3 })]),
        select(vec![Normalise::GroupStd, Normalise::BatchStd, Normalise::None]),
        select(vec![Level::Sequence, Level::Node]),
    );
    let mask = (
        select(vec![MaskLaw::Certainty, MaskLaw::InformationGain]),
        0.0..1.0,
        select(vec![Denominator::Weight, Denominator::Count]),
    );
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
    (policy, mask, kl, rest).prop_map(|(policy, (law, decay, denominator), kl, (duplicates, rule))| {
        let (surrogate, aggregate, clip, normalise, level) = policy;
        let (kind, fraction, anchor, estimator, exclude_forced) = kl;
        ObjectiveConfig {
            surrogate,
            aggregate,
            clip,
            advantage: Advantage { level, normalise, epsilon: 1e-2 },
            mask: Mask { law, decay, source: Source::Catalog, smoothing: 1.0, denominator },
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

fn weights(config: &ObjectiveConfig, children: &[u32], information: &[f64]) -> Vec<f64> {
    let decay = config.mask.decay;
    match config.mask.law {
        MaskLaw::Certainty => children.iter().map(|&count| if count == 1 { decay } else { 1.0 }).collect(),
        MaskLaw::InformationGain => information.iter().map(|share| decay + (1.0 - decay) * share).collect(),
    }
}

fn denominator(config: &ObjectiveConfig, children: &[u32], information: &[f64]) -> f64 {
    match config.mask.denominator {
        Denominator::Weight => weights(config, children, information).iter().sum(),
        Denominator::Count => children.len() as f64,
    }
}

/// The advantages of a completion's tokens if its group's mean reward is `mean`.
fn of_tokens(config: &ObjectiveConfig, group: &Group, it: &Completion, mean_reward: f64, scale: f64) -> Vec<f64> {
    let mut advantage = (it.reward - mean_reward) / scale;
    let mut tokens = Vec::new();
    for t in 0..it.logprob.len() {
        let came = |other: &&Completion| t == 0 || other.node.get(t - 1) == Some(&it.node[t - 1]);
        let goes = |other: &&Completion| other.node.get(t) == Some(&it.node[t]);
        let came: Vec<f64> = group.completions.iter().filter(came).map(|other| other.reward).collect();
        let goes: Vec<f64> = group.completions.iter().filter(goes).map(|other| other.reward).collect();
        if config.advantage.level == Level::Node && goes.len() < came.len() {
            advantage = (mean(&goes) - mean(&came)) / scale;
        }
        tokens.push(advantage);
    }
    tokens
}

/// `(advantages of the tokens, completion)` of every completion of a passing group.
fn advantages<'a>(config: &ObjectiveConfig, groups: &'a [Group]) -> Vec<(Vec<f64>, &'a Completion)> {
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
            let tokens = move |it| (of_tokens(config, group, it, mean(&rewards), scale), it);
            group.completions.iter().map(tokens)
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

/// Whether a token takes part in the ranking of KL-Cov.
fn is_candidate(config: &ObjectiveConfig, children: u32) -> bool {
    !(config.kl.exclude_forced && children == 1)
}

/// The covariance of a token's advantage and log-probability, by the means of all candidates.
fn covariance(config: &ObjectiveConfig, groups: &[Group]) -> impl Fn(f64, f64) -> f64 + use<> {
    let candidates = candidates(config, groups);
    let mean_advantage = mean(&candidates.iter().map(|token| token.0).collect::<Vec<_>>());
    let mean_logprob = mean(&candidates.iter().map(|token| token.1).collect::<Vec<_>>());
    move |advantage, logprob| (advantage - mean_advantage) * (logprob - mean_logprob)
}

/// `(advantage, log-probability)` of every candidate.
fn candidates(config: &ObjectiveConfig, groups: &[Group]) -> Vec<(f64, f64)> {
    let of_completion = |(advantages, it): (Vec<f64>, &Completion)| {
        let tokens = (0..it.logprob.len()).filter(|&t| is_candidate(config, it.children[t]));
        tokens.map(|t| (advantages[t], it.logprob[t])).collect::<Vec<_>>()
    };
    advantages(config, groups).into_iter().flat_map(of_completion).collect()
}

/// The covariance a token must reach to be penalised, and how far below it the best of the others lies.
fn threshold(config: &ObjectiveConfig, groups: &[Group]) -> (f64, f64) {
    let covariance = covariance(config, groups);
    let tokens = candidates(config, groups);
    let mut ranked: Vec<f64> = tokens.iter().map(|&(advantage, logprob)| covariance(advantage, logprob)).collect();
    ranked.sort_by(|a, b| b.partial_cmp(a).unwrap());
    let count = ((tokens.len() as f64 * config.kl.fraction) as usize).max(1);
    (ranked[count - 1], ranked.get(count).map_or(f64::INFINITY, |next| ranked[count - 1] - next))
}

fn policy_loss(config: &ObjectiveConfig, groups: &[Group]) -> f64 {
    let completions = advantages(config, groups);
    let (covariance, (threshold, _)) = (covariance(config, groups), threshold(config, groups));
    let (mut sums, mut denominators) = (Vec::new(), Vec::new());
    for (advantages, it) in &completions {
        let weights = weights(config, &it.children, &it.information);
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
                KlKind::Cov => is_candidate(config, it.children[t]) && covariance(advantages[t], logprob) >= threshold,
            };
            let penalty = if is_penalised { config.kl.coefficient * divergence } else { 0.0 };
            sum += weights[t] * (penalty - surrogate(config, advantages[t], logprob, it.behaviour_logprob[t]));
        }
        sums.push(sum);
        denominators.push(denominator(config, &it.children, &it.information));
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
    let score = |logprob: &[f64], children: &[u32], information: &[f64]| {
        let weights = weights(config, children, information);
        let weighted: f64 = weights.iter().zip(logprob).map(|(weight, logprob)| weight * logprob).sum();
        weighted / denominator(config, children, information)
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
            let difference = score(&target.logprob, &target.children, &target.information)
                - score(&it.logprob, &it.children, &it.information);
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
        // Among siblings advantages can average to nothing, and those of 0 then have no covariance: rounding would rank them.
        prop_assume!(config.kl.kind != KlKind::Cov || threshold(&config, &groups).1 > 1e-9);
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
