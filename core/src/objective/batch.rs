//! The input: groups of completions with their log-probabilities, and what must hold for them.

use super::{ObjectiveConfig, ObjectiveError, Place, Routing, mask::Masked};
use serde::{Deserialize, Serialize};

/// One sampled item of a group, token by token.
///
/// # Shapes
/// `T` is the number of tokens, end token included. All log-probabilities are natural and in one
/// [`LogprobSpace`](crate::logprob_space::LogprobSpace).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The item the tokens spell.
    pub item: u32,
    /// Reward of the completion.
    pub reward: f64,
    /// `[T]` log-probability under the current policy, the variable of the gradient.
    pub logprob: Vec<f64>,
    /// `[T]` log-probability under the policy that sampled the completion; may be empty unless
    /// [`ObjectiveConfig::needs_behaviour`].
    #[serde(default)]
    pub behaviour_logprob: Vec<f64>,
    /// `[T]` log-probability under the frozen reference policy; may be empty unless the group is one of
    /// [`passing`](super::passing) and [`ObjectiveConfig::needs_reference`].
    #[serde(default)]
    pub reference_logprob: Vec<f64>,
    /// `[T]` number of legal children before each token; 1 marks a forced token.
    pub children: Vec<u32>,
    /// `[T]` share of the item's [information](crate::information) that each token gives, from 0 to 1; may be empty unless
    /// [`ObjectiveConfig::needs_information`].
    #[serde(default)]
    pub information: Vec<f64>,
    /// `[T]` catalog node that each token leads to: completions share a token where they share its node. May be empty unless the
    /// group is one of [`passing`](super::passing) and [`ObjectiveConfig::needs_nodes`].
    #[serde(default)]
    pub node: Vec<u32>,
}

/// The item that really came next, token by token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The target item.
    pub item: u32,
    /// `[T]` log-probability under the current policy; may be empty where the objective does not need it (see
    /// [`ObjectiveConfig::needs_target_of_failed_groups`] and [`ObjectiveConfig::needs_target_for_all_groups`]).
    pub logprob: Vec<f64>,
    /// `[T]` number of legal children before each token.
    pub children: Vec<u32>,
    /// `[T]` as of a completion; may be empty where `logprob` may, or unless [`ObjectiveConfig::needs_information`].
    #[serde(default)]
    pub information: Vec<f64>,
}

/// All completions sampled for one prompt, and the prompt's target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The completions; only a [target-only](super::TargetOnly) objective accepts none.
    pub completions: Vec<Completion>,
    /// The target.
    pub target: Target,
}

impl Target {
    pub(super) fn masked(&self) -> Masked<'_> {
        Masked { children: &self.children, information: &self.information }
    }
}

impl Group {
    /// The rewards of the completions, in order.
    pub(super) fn rewards(&self) -> impl Iterator<Item = f64> {
        self.completions.iter().map(|completion| completion.reward)
    }
}

/// Refuses a batch that `config` cannot be evaluated on.
pub(super) fn validate(config: &ObjectiveConfig, groups: &[Group]) -> Result<(), ObjectiveError> {
    if groups.is_empty() {
        return Err(ObjectiveError::EmptyBatch);
    }
    let Routing { passed, failed, .. } = Routing::of(groups);
    for (group_index, group) in groups.iter().enumerate() {
        let passes = passed.binary_search(&group_index).is_ok();
        if group.completions.is_empty() && config.needs_completions() {
            return Err(ObjectiveError::EmptyGroup { group: group_index });
        }
        for (completion_index, completion) in group.completions.iter().enumerate() {
            let place = Place::Completion { group: group_index, completion: completion_index };
            completion.validate(config, passes, place)?;
        }
    }
    for (group_index, group) in groups.iter().enumerate() {
        let is_needed = config.needs_target_for_all_groups()
            || (config.needs_target_of_failed_groups() && failed.binary_search(&group_index).is_ok());
        let place = Place::Target { group: group_index };
        let target = &group.target;
        if is_needed || !target.logprob.is_empty() {
            check_children(&target.children, place)?;
            check_logprobs(&target.logprob, "logprob", target.children.len(), place)?;
            check_information(config, target.masked(), place)?;
        }
    }
    Ok(())
}

impl Completion {
    pub(super) fn masked(&self) -> Masked<'_> {
        Masked { children: &self.children, information: &self.information }
    }

    fn validate(&self, config: &ObjectiveConfig, passes: bool, place: Place) -> Result<(), ObjectiveError> {
        if !self.reward.is_finite() {
            return Err(ObjectiveError::RewardNotFinite { place, value: self.reward });
        }
        check_children(&self.children, place)?;
        let num_tokens = self.children.len();
        check_logprobs(&self.logprob, "logprob", num_tokens, place)?;
        for (field, values, is_needed) in [
            ("behaviour_logprob", &self.behaviour_logprob, config.needs_behaviour()),
            ("reference_logprob", &self.reference_logprob, passes && config.needs_reference()),
        ] {
            if is_needed || !values.is_empty() {
                check_logprobs(values, field, num_tokens, place)?;
            }
        }
        if passes && config.needs_nodes() && self.node.len() != num_tokens {
            let got = self.node.len();
            return Err(ObjectiveError::Length { place, field: "node", expected: num_tokens, got });
        }
        check_information(config, self.masked(), place)
    }
}

fn check_information(config: &ObjectiveConfig, tokens: Masked<'_>, place: Place) -> Result<(), ObjectiveError> {
    let (expected, got) = (tokens.children.len(), tokens.information.len());
    if !config.needs_information() {
        return Ok(());
    }
    if got != expected {
        return Err(ObjectiveError::Length { place, field: "information", expected, got });
    }
    match tokens.information.iter().enumerate().find(|(_, share)| !(0.0..=1.0).contains(*share)) {
        Some((token, &value)) => Err(ObjectiveError::Information { place, token, value }),
        None => Ok(()),
    }
}

fn check_children(children: &[u32], place: Place) -> Result<(), ObjectiveError> {
    if children.is_empty() {
        return Err(ObjectiveError::EmptySequence { place });
    }
    match children.iter().position(|&count| count == 0) {
        Some(token) => Err(ObjectiveError::NoChildren { place, token }),
        None => Ok(()),
    }
}

fn check_logprobs(values: &[f64], field: &'static str, num_tokens: usize, place: Place) -> Result<(), ObjectiveError> {
    if values.len() != num_tokens {
        return Err(ObjectiveError::Length { place, field, expected: num_tokens, got: values.len() });
    }
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((token, &value)) => Err(ObjectiveError::TokenNotFinite { place, field, token, value }),
        None => Ok(()),
    }
}
