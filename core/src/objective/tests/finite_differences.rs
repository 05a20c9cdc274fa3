//! Every gradient entry against central differences of the loss.

use super::fixtures::batch;
use crate::logprob_space::LogprobSpace;
use crate::objective::{
    Advantage, Aggregate, Anchor, CombineRule, Denominator, Duplicates, Estimator, Group, KlKind, Level, MaskLaw,
    Normalise, ObjectiveConfig, Preset, Surrogate, TargetOnly, evaluate,
};

const STEP: f64 = 1e-6;

/// The presets in both spaces, and switches that no preset turns.
fn configs() -> Vec<(String, ObjectiveConfig)> {
    let mut configs = Vec::new();
    for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
        configs.extend(Preset::ALL.map(|preset| (format!("{preset} in {space} space"), preset.config(space))));
    }
    let mut variant = |name: &str, change: &dyn Fn(&mut ObjectiveConfig)| {
        let mut config = Preset::Riser.config(LogprobSpace::Vocabulary);
        config.kl.fraction = 0.1;
        change(&mut config);
        configs.push((name.to_owned(), config));
    };
    variant("many selected tokens", &|_| {});
    variant("no clip", &|config| config.clip = None);
    variant("cispo with kl-cov", &|config| config.surrogate = Surrogate::Cispo);
    variant("reinforce", &|config| config.surrogate = Surrogate::Reinforce);
    variant("batch_std", &|config| {
        config.advantage = Advantage { normalise: Normalise::BatchStd, epsilon: 1e-3, ..config.advantage }
    });
    variant("mask count", &|config| config.mask.denominator = Denominator::Count);
    variant("information gain", &|config| {
        (config.mask.law, config.mask.decay) = (MaskLaw::InformationGain, 0.3);
    });
    variant("information gain, count", &|config| {
        (config.mask.law, config.mask.denominator) = (MaskLaw::InformationGain, Denominator::Count);
        config.aggregate = Aggregate::SequenceMeanTokenMean;
    });
    variant("node advantages", &|config| config.advantage.level = Level::Node);
    variant("node advantages, information gain, cispo", &|config| {
        (config.advantage.level, config.advantage.normalise) = (Level::Node, Normalise::None);
        (config.mask.law, config.surrogate) = (MaskLaw::InformationGain, Surrogate::Cispo);
    });
    variant("sequence mean of token means", &|config| config.aggregate = Aggregate::SequenceMeanTokenMean);
    variant("sequence mean of token sums", &|config| config.aggregate = Aggregate::SequenceMeanTokenSum);
    variant("kl-cov of its authors", &|config| {
        config.kl.anchor = Anchor::Behaviour;
        config.kl.estimator = Estimator::Abs;
        config.clip = None;
    });
    variant("global behaviour kl", &|config| {
        config.kl.kind = KlKind::Global;
        config.kl.anchor = Anchor::Behaviour;
    });
    variant("kept duplicates, sum of means", &|config| {
        config.simpo.duplicates = Duplicates::Keep;
        config.combine.rule = CombineRule::SumOfMeans;
        config.combine.policy_weight = 0.7;
        config.combine.simpo_weight = 0.3;
    });
    variant("kappa one half", &|config| config.target_only = Some(TargetOnly { kappa: 0.5 }));
    configs
}

/// Slope of the loss when `shift` moves one log-probability.
fn slope(config: &ObjectiveConfig, groups: &[Group], shift: impl Fn(&mut [Group], f64)) -> f64 {
    let loss = |step: f64| {
        let mut shifted = groups.to_vec();
        shift(&mut shifted, step);
        evaluate(config, &shifted).unwrap().loss
    };
    (loss(STEP) - loss(-STEP)) / (2.0 * STEP)
}

#[test]
fn every_gradient_entry_is_the_slope_of_the_loss() {
    let groups = batch(5, 4, 5);
    for (name, config) in configs() {
        let outcome = evaluate(&config, &groups).unwrap();
        let mut largest = 0.0f64;
        let mut check = |entry: String, slope: f64, numeric: f64| {
            assert!((slope - numeric).abs() < 1e-8, "{name}: {entry}: {slope} vs {numeric}");
            largest = largest.max(slope.abs());
        };
        for (g, group) in groups.iter().enumerate() {
            for (c, completion) in group.completions.iter().enumerate() {
                for t in 0..completion.logprob.len() {
                    let numeric = slope(&config, &groups, |groups, step| {
                        let completion = &mut groups[g].completions[c];
                        completion.logprob[t] += step;
                        if config.surrogate == Surrogate::Cispo {
                            // moving both leaves the ratio alone: the weight is a constant to the gradient
                            completion.behaviour_logprob[t] += step;
                        }
                    });
                    check(format!("completion {g} {c} {t}"), outcome.gradient[g][c][t], numeric);
                }
            }
            for t in 0..group.target.logprob.len() {
                let numeric = slope(&config, &groups, |groups, step| groups[g].target.logprob[t] += step);
                check(format!("target {g} {t}"), outcome.target_gradient[g][t], numeric);
            }
        }
        assert!(largest > 1e-3, "{name}: the gradient is nowhere alive");
    }
}
