//! The output: loss, its parts, diagnostics and the gradient.

use super::{Diagnostics, Group, ObjectiveError};

/// What the objective says about one optimizer batch.
///
/// # Shapes
/// Everything indexed by group has one entry per group of the batch, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The total, whose gradient is below.
    pub loss: f64,
    /// Policy loss of the passing groups, before its weight; 0 if there are none.
    pub policy_loss: f64,
    /// The part of the policy loss that is divergence penalty.
    pub kl_penalty: f64,
    /// Preference loss of the failing groups, before its weight; 0 if there are none.
    pub simpo_loss: f64,
    /// Loss of a [target-only](super::TargetOnly) objective, which is then the total; else 0.
    pub target_loss: f64,
    /// Groups with a hit and contrasting rewards, ascending.
    pub passed: Vec<usize>,
    /// Groups without a hit, ascending.
    pub failed: Vec<usize>,
    /// Groups with a hit but equal rewards, ascending; they contribute nothing.
    pub all_hit: Vec<usize>,
    /// Number of preference pairs.
    pub pairs: usize,
    /// `[groups][completions]` advantages; `None` for a group that did not pass.
    pub advantages: Vec<Option<Vec<f64>>>,
    /// `(group, completion, token)` of every token that KL-Cov selected, ascending.
    pub kl_selected: Vec<(usize, usize, usize)>,
    /// `[groups][completions][tokens]` derivative of `loss` with respect to every `logprob` of a completion.
    pub gradient: Vec<Vec<Vec<f64>>>,
    /// `[groups][tokens]` derivative of `loss` with respect to every `logprob` of a target. A completion that equals the
    /// target has entries of its own: derivatives are not merged.
    pub target_gradient: Vec<Vec<f64>>,
    /// What to log beside the losses.
    pub diagnostics: Diagnostics,
}

/// The gradient while it is summed up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gradient {
    pub(super) completions: Vec<Vec<Vec<f64>>>,
    pub(super) targets: Vec<Vec<f64>>,
}

impl Gradient {
    pub(super) fn zeros(groups: &[Group]) -> Self {
        let completions = |group: &Group| group.completions.iter().map(|it| vec![0.0; it.logprob.len()]).collect();
        Self {
            completions: groups.iter().map(completions).collect(),
            targets: groups.iter().map(|group| vec![0.0; group.target.logprob.len()]).collect(),
        }
    }
}

impl Outcome {
    /// The outcome of a batch in which no group contributes.
    pub(super) fn empty(groups: &[Group]) -> Self {
        Self {
            loss: 0.0,
            policy_loss: 0.0,
            kl_penalty: 0.0,
            simpo_loss: 0.0,
            target_loss: 0.0,
            passed: Vec::new(),
            failed: Vec::new(),
            all_hit: Vec::new(),
            pairs: 0,
            advantages: vec![None; groups.len()],
            kl_selected: Vec::new(),
            gradient: Vec::new(),
            target_gradient: Vec::new(),
            diagnostics: Diagnostics::default(),
        }
    }

    /// Refuses a result that would poison the model.
    pub(super) fn check_finite(&self) -> Result<(), ObjectiveError> {
        let gradients = self.gradient.iter().flatten().chain(&self.target_gradient).flatten();
        let quantities = std::iter::once(("loss", self.loss)).chain(gradients.map(|&entry| ("gradient", entry)));
        for (quantity, value) in quantities {
            if !value.is_finite() {
                return Err(ObjectiveError::ResultNotFinite { quantity, value });
            }
        }
        Ok(())
    }
}
