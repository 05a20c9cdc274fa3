//! The objective: groups of completions in, loss and gradient out.
//!
//! [`evaluate`] is a pure function of numbers. It knows no tensor, no device and no batch layout: the learner runs its
//! forward pass, reads the log-probability of every token, asks the objective, and sends the returned coefficients
//! (the derivative of the loss with respect to each log-probability) back through the model. Because it sees the whole
//! optimizer batch at once, KL-Cov ranks tokens across the batch whatever the micro-batching.
//!
//! The loss has two halves (method 1.1 and 1.7). Groups with a hit and contrasting rewards train a policy-gradient
//! surrogate with a certainty mask and an optional divergence penalty; groups without a hit become preference pairs
//! (target over completion) trained with SimPO:
//!
//! ```text
//! loss = policy_weight * share_p * policy_loss + simpo_weight * share_f * simpo_loss        (see Combine)
//! ```
//!
//! Read in this order: [`ObjectiveConfig`] (one struct per switch, each beside its formula), the routing of groups, the
//! policy loss, the preference loss. [`Preset`] names the combinations that make up RISER and its baselines.

mod advantage;
mod aggregate;
mod batch;
mod combine;
mod config;
mod diagnostics;
mod error;
mod kl;
mod kl_cov;
mod mask;
mod node_advantage;
mod outcome;
mod policy_loss;
mod preference;
mod preset;
mod routing;
mod surrogate;
mod target_only;
#[cfg(test)]
mod tests;

pub use advantage::{Advantage, Level, Normalise};
pub use aggregate::Aggregate;
pub use batch::{Completion, Group, Target};
pub use combine::{Combine, CombineRule};
pub use config::ObjectiveConfig;
pub use diagnostics::Diagnostics;
pub use error::{ObjectiveError, Place};
pub use kl::{Anchor, Estimator, Kl, KlKind};
pub use mask::{Denominator, Mask, MaskLaw, Source};
pub use outcome::Outcome;
pub use preference::{Duplicates, Simpo};
pub use preset::{Preset, UnknownPreset};
pub use surrogate::{Clip, Surrogate};
pub use target_only::TargetOnly;

use outcome::Gradient;
use routing::Routing;

/// Places of the groups that the policy loss, and with it the divergence penalty, is taken over, ascending: those with a hit
/// whose rewards differ.
pub fn passing(groups: &[Group]) -> Vec<usize> {
    Routing::of(groups).passed
}

/// Evaluates the objective on one optimizer batch.
///
/// A batch without passing groups has a policy loss of 0, one without failing groups a preference loss of 0; neither is
/// ever NaN.
///
/// # Errors
/// [`ObjectiveError`] if the configuration or the batch is not valid (see its variants), or if the result overflows.
pub fn evaluate(config: &ObjectiveConfig, groups: &[Group]) -> Result<Outcome, ObjectiveError> {
    config.validate()?;
    batch::validate(config, groups)?;
    let routing = Routing::of(groups);
    let mut gradient = Gradient::zeros(groups);
    let mut outcome = Outcome::empty(groups);
    if let Some(target_only) = config.target_only {
        outcome.target_loss = target_only.loss(groups, &mut gradient);
        outcome.loss = outcome.target_loss;
        outcome.diagnostics = diagnostics::measure(config, groups, &routing, &[]);
    } else {
        let weights = config.combine.weights(&routing, groups.len());
        outcome.advantages = config.advantage.of_groups(groups, &routing.passed);
        let policy = policy_loss::evaluate(config, groups, &outcome.advantages, weights.policy, &mut gradient);
        let preference = config.simpo.loss(config.mask, groups, &routing.failed, weights.simpo, &mut gradient);
        outcome.loss = weights.policy * policy.loss + weights.simpo * preference.loss;
        outcome.policy_loss = policy.loss;
        outcome.kl_penalty = policy.kl_penalty;
        outcome.simpo_loss = preference.loss;
        outcome.pairs = preference.pairs;
        outcome.diagnostics = diagnostics::measure(config, groups, &routing, &policy.tokens);
        outcome.kl_selected = policy.kl_selected;
    }
    (outcome.passed, outcome.failed, outcome.all_hit) = (routing.passed, routing.failed, routing.all_hit);
    (outcome.gradient, outcome.target_gradient) = (gradient.completions, gradient.targets);
    outcome.check_finite()?;
    Ok(outcome)
}
