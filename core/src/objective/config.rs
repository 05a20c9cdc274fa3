//! The switches of the objective.

use super::{
    Advantage, Aggregate, Anchor, Clip, Combine, Kl, KlKind, Level, Mask, ObjectiveError, Simpo, Source, Surrogate,
    TargetOnly,
};
use serde::{Deserialize, Serialize};

/// Every switch of the objective; [`Preset`](super::Preset) names the useful combinations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Surrogate of the policy loss.
    pub surrogate: Surrogate,
    /// How passing groups are averaged.
    pub aggregate: Aggregate,
    /// Range of the importance ratio; absent or null for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
    /// How rewards become advantages.
    pub advantage: Advantage,
    /// Weights of tokens.
    pub mask: Mask,
    /// Divergence penalty of the policy loss.
    pub kl: Kl,
    /// Preference loss of failing groups.
    pub simpo: Simpo,
    /// How the two losses are combined.
    pub combine: Combine,
    /// Replaces everything above by a loss on the target alone; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_only: Option<TargetOnly>,
}

impl ObjectiveConfig {
    /// Whether the loss looks at completions at all; if not, groups may come without them.
    pub fn needs_completions(&self) -> bool {
        self.target_only.is_none()
    }

    /// Whether completions must come with the log-probabilities of the policy that sampled them.
    pub fn needs_behaviour(&self) -> bool {
        self.uses_policy_loss() && (self.surrogate != Surrogate::Reinforce || self.penalises_from(Anchor::Behaviour))
    }

    /// Whether completions of [`passing`](super::passing) groups must come with log-probabilities under the reference policy.
    pub fn needs_reference(&self) -> bool {
        self.uses_policy_loss() && self.penalises_from(Anchor::Reference)
    }

    /// Whether completions, and targets that are needed, must come with the information of their tokens.
    pub fn needs_information(&self) -> bool {
        self.needs_completions() && self.mask.uses_information()
    }

    /// Whether that information is of the popularity of the catalog's items.
    pub fn needs_popularity(&self) -> bool {
        self.needs_information() && self.mask.source == Source::Popularity
    }

    /// Whether completions of [`passing`](super::passing) groups must come with the nodes that their tokens lead to.
    pub fn needs_nodes(&self) -> bool {
        self.uses_policy_loss() && self.advantage.level == Level::Node
    }

    /// Whether failing groups must come with the target's log-probabilities.
    pub fn needs_target_of_failed_groups(&self) -> bool {
        self.needs_target_for_all_groups() || self.combine.simpo_weight > 0.0
    }

    /// Whether every group must come with the target's log-probabilities.
    pub fn needs_target_for_all_groups(&self) -> bool {
        self.target_only.is_some()
    }

    fn uses_policy_loss(&self) -> bool {
        self.target_only.is_none() && self.combine.policy_weight > 0.0
    }

    fn penalises_from(&self, anchor: Anchor) -> bool {
        self.kl.kind != KlKind::None && self.kl.coefficient > 0.0 && self.kl.anchor == anchor
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// [`ObjectiveError::Setting`] for the first setting outside its range.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        let finite = |value: f64| value >= 0.0 && value.is_finite();
        let positive = |value: f64| finite(value) && value > 0.0;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        const FINITE: &str = "a finite number of at least 0";
        const POSITIVE: &str = "a finite number above 0";
        const SHARE: &str = "a number from 0 to 1";
        let mut settings = vec![
            ("advantage.epsilon", self.advantage.epsilon, finite(self.advantage.epsilon), FINITE),
            ("mask.decay", self.mask.decay, share(self.mask.decay), SHARE),
            ("mask.smoothing", self.mask.smoothing, positive(self.mask.smoothing), POSITIVE),
            ("kl.fraction", self.kl.fraction, share(self.kl.fraction), SHARE),
            ("kl.coefficient", self.kl.coefficient, finite(self.kl.coefficient), FINITE),
            ("simpo.beta", self.simpo.beta, positive(self.simpo.beta), POSITIVE),
            ("simpo.gamma", self.simpo.gamma, finite(self.simpo.gamma), FINITE),
            ("combine.policy_weight", self.combine.policy_weight, finite(self.combine.policy_weight), FINITE),
            ("combine.simpo_weight", self.combine.simpo_weight, finite(self.combine.simpo_weight), FINITE),
        ];
        if let Some(Clip { low, high }) = self.clip {
            settings.push(("clip.low", low, share(low), SHARE));
            settings.push(("clip.high", high, high >= 0.0, "a number of at least 0"));
        }
        if let Some(TargetOnly { kappa }) = self.target_only {
            settings.push(("target_only.kappa", kappa, finite(kappa), FINITE));
        }
        match settings.into_iter().find(|&(_, _, is_valid, _)| !is_valid) {
            Some((field, value, _, expected)) => Err(ObjectiveError::Setting { field, value, expected }),
            None => Ok(()),
        }
    }
}
