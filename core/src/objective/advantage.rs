//! Advantages: how much better a completion is than its group.

use super::Group;
use serde::{Deserialize, Serialize};

/// How advantages are computed.
///
/// ```text
/// A_i = (r_i - mean_j r_j) / scale
///
/// group_std   scale = std_j(r_j of the group) + epsilon            GRPO, the RISER paper's baseline
/// batch_std   scale = std(all rewards of the batch) + epsilon
/// none        scale = 1                                            Dr. GRPO
/// ```
///
/// (method 1.2; standard deviations divide by n - 1, as verl and ReRe do.) Under `group_std` a factor common to all
/// rewards cancels, up to epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advantage {
    /// What centred rewards are divided by.
    pub normalise: Normalise,
    /// Added to the standard deviation; same unit as the reward.
    pub epsilon: f64,
}

/// What centred rewards are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// The standard deviation of the group's rewards.
    GroupStd,
    /// The standard deviation of all rewards of the batch.
    BatchStd,
    /// Nothing: rewards are centred only.
    None,
}

impl Advantage {
    /// The advantages of the groups in `passed`; `None` for every other group.
    ///
    /// # Shapes
    /// - returns `[groups][completions]`
    pub(super) fn of_groups(&self, groups: &[Group], passed: &[usize]) -> Vec<Option<Vec<f64>>> {
        let mut advantages = vec![None; groups.len()];
        if passed.is_empty() {
            return advantages;
        }
        let batch_std = match self.normalise {
            Normalise::BatchStd => sample_std(&groups.iter().flat_map(Group::rewards).collect::<Vec<_>>()),
            Normalise::GroupStd | Normalise::None => 0.0,
        };
        for &index in passed {
            let rewards: Vec<f64> = groups[index].rewards().collect();
            let scale = match self.normalise {
                Normalise::GroupStd => sample_std(&rewards) + self.epsilon,
                Normalise::BatchStd => batch_std + self.epsilon,
                Normalise::None => 1.0,
            };
            let mean = mean(&rewards);
            advantages[index] = Some(rewards.iter().map(|reward| (reward - mean) / scale).collect());
        }
        advantages
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation with n - 1; only asked of rewards that differ, so of at least two.
fn sample_std(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}
