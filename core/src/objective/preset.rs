//! Named combinations of switches: RISER and what it is compared with.

use super::{
    Advantage, Aggregate, Anchor, Clip, Combine, CombineRule, Denominator, Duplicates, Estimator, Kl, KlKind, Level,
    Mask, MaskLaw, Normalise, ObjectiveConfig, Simpo, Source, Surrogate, TargetOnly,
};
use crate::logprob_space::LogprobSpace;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A named objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// RISER as read in method 7.
    Riser,
    /// The baseline the RISER paper compares with.
    Grpo,
    /// DAPO: asymmetric clip, no penalty, groups without contrast dropped.
    Dapo,
    /// Dr. GRPO: no division by the standard deviation or by the length.
    DrGrpo,
    /// CISPO: the importance weight is clipped instead of the token's gradient.
    Cispo,
    /// The preference half of RISER alone.
    SimpoOnly,
    /// Continued supervised training on the same prompts.
    ContinueSft,
    /// The exact policy gradient of the hit reward.
    ExactGradient,
}

impl Preset {
    /// All presets, in the order they are explained.
    pub const ALL: [Self; 8] = [
        Self::Riser,
        Self::Grpo,
        Self::Dapo,
        Self::DrGrpo,
        Self::Cispo,
        Self::SimpoOnly,
        Self::ContinueSft,
        Self::ExactGradient,
    ];

    /// The name used in configuration files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Riser => "riser",
            Self::Grpo => "grpo",
            Self::Dapo => "dapo",
            Self::DrGrpo => "dr-grpo",
            Self::Cispo => "cispo",
            Self::SimpoOnly => "simpo-only",
            Self::ContinueSft => "continue-sft",
            Self::ExactGradient => "exact-gradient",
        }
    }

    /// One sentence on what the preset does.
    pub fn description(self) -> &'static str {
        match self {
            Self::Riser => {
                "RISER: GRPO with certainty mask and KL-Cov on groups with a hit, SimPO on groups without one"
            }
            Self::Grpo => "plain GRPO with a global KL penalty to the reference; groups without a hit teach nothing",
            Self::Dapo => "DAPO: higher upper clip, no KL penalty, averaged over groups with contrast only",
            Self::DrGrpo => "Dr. GRPO: centred rewards, token losses summed, no bias from length or difficulty",
            Self::Cispo => "CISPO: REINFORCE with a clipped importance weight, so that no token loses its gradient",
            Self::SimpoOnly => "SimPO on groups without a hit; groups with a hit teach nothing",
            Self::ContinueSft => "continued supervised training on the prompts' targets, without rollouts",
            Self::ExactGradient => {
                "the exact policy gradient of the hit reward from the target alone, without rollouts"
            }
        }
    }

    /// The configuration, for log-probabilities of that space.
    ///
    /// In catalog space a forced token has log-probability 0 and no gradient, so forced tokens are left out of the
    /// averages and of KL-Cov's ranking.
    pub fn config(self, space: LogprobSpace) -> ObjectiveConfig {
        let mut config = match self {
            Self::Riser => riser(),
            Self::Grpo => grpo(),
            Self::Dapo => ObjectiveConfig {
                clip: Some(Clip { low: 0.2, high: 0.28 }),
                kl: without_kl(),
                combine: Combine { rule: CombineRule::SumOfMeans, ..grpo().combine },
                ..grpo()
            },
            Self::DrGrpo => ObjectiveConfig {
                advantage: Advantage { normalise: Normalise::None, ..grpo().advantage },
                kl: without_kl(),
                aggregate: Aggregate::SequenceMeanTokenSum,
                ..grpo()
            },
            Self::Cispo => ObjectiveConfig {
                surrogate: Surrogate::Cispo,
                clip: Some(Clip { low: 1.0, high: 0.28 }),
                kl: without_kl(),
                ..grpo()
            },
            Self::SimpoOnly => ObjectiveConfig {
                combine: Combine { policy_weight: 0.0, ..riser().combine },
                kl: without_kl(),
                ..riser()
            },
            Self::ContinueSft => target_only(0.0),
            Self::ExactGradient => target_only(1.0),
        };
        if space == LogprobSpace::Catalog {
            config.kl.exclude_forced = true;
            config.mask.decay = 0.0;
        }
        config
    }
}

/// The defaults of method 7.
fn riser() -> ObjectiveConfig {
    ObjectiveConfig {
        surrogate: Surrogate::Grpo,
        aggregate: Aggregate::TokenMean,
        clip: Some(Clip { low: 0.2, high: 0.2 }),
        advantage: Advantage { level: Level::Sequence, normalise: Normalise::GroupStd, epsilon: 1e-6 },
        mask: Mask {
            law: MaskLaw::Certainty,
            decay: 0.7,
            source: Source::Catalog,
            smoothing: Mask::SMOOTHING,
            denominator: Denominator::Weight,
        },
        kl: Kl {
            kind: KlKind::Cov,
            fraction: 0.002,
            coefficient: 0.1,
            anchor: Anchor::Reference,
            estimator: Estimator::K3,
            exclude_forced: false,
        },
        simpo: Simpo { beta: 2.0, gamma: 1.0, duplicates: Duplicates::Collapse },
        combine: Combine { rule: CombineRule::ByGroup, policy_weight: 1.0, simpo_weight: 1.0 },
        target_only: None,
    }
}

/// The baseline of method 1.2: no mask, a global k3 penalty of 1e-3, no use of failed groups.
fn grpo() -> ObjectiveConfig {
    let riser = riser();
    ObjectiveConfig {
        mask: Mask { decay: 1.0, ..riser.mask },
        kl: Kl { kind: KlKind::Global, coefficient: 1e-3, ..riser.kl },
        combine: Combine { simpo_weight: 0.0, ..riser.combine },
        ..riser
    }
}

fn without_kl() -> Kl {
    Kl { kind: KlKind::None, ..riser().kl }
}

fn target_only(kappa: f64) -> ObjectiveConfig {
    ObjectiveConfig { kl: without_kl(), target_only: Some(TargetOnly { kappa }), ..grpo() }
}

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A text that names no preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a preset: expected one of {}", Preset::ALL.map(|preset| format!("`{preset}`")).join(", "))]
pub struct UnknownPreset {
    /// The offending text.
    pub text: String,
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        let unknown = || UnknownPreset { text: text.to_owned() };
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(unknown)
    }
}
