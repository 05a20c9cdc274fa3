//! Advantages: how much better a completion is than its group.

use super::{Group, node_advantage};
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
/// rewards cancels, up to epsilon. The [`Level`] says which tokens get which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advantage {
    /// What the tokens of a completion are compared with.
    #[serde(default)]
    pub level: Level,
    /// What centred rewards are divided by.
    pub normalise: Normalise,
    /// Added to the standard deviation; same unit as the reward.
    pub epsilon: f64,
}

/// What the tokens of a completion are compared with.
///
/// ```text
/// sequence   A_it = A_i                                      all tokens with the whole group (GRPO)
/// node       A_it = Abar(c) - Abar(v)                        the token from v to c with its siblings (Sibling-GRPO, method 4 and 6.4 (b))
/// ```
///
/// `Abar` is the mean advantage of the kept completions through a node. Where all completions through `v` go on alike there are no
/// siblings, and a token keeps the advantage of the last one before it that had some, or `A_i` if there was none. The formula is
/// our reading of an abstract, the rest our choice: with one scale for a group the advantages of the choices that part an item
/// from others sum to its `A_i`, and where the tree parts only once both levels are the same. Of `k` completions through `v`
/// the mean holds each itself, which shrinks the gradient there by `(k - 1) / k`, as the group's does by `(n - 1) / n`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The group.
    #[default]
    Sequence,
    /// Their siblings in the prefix tree.
    Node,
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

    /// The advantage of every token of a group, from the `advantages` of its completions.
    ///
    /// # Shapes
    /// - `advantages`: `[completions]`; returns `[completions][tokens]`
    pub(super) fn of_tokens(&self, group: &Group, advantages: &[f64]) -> Vec<Vec<f64>> {
        match self.level {
            Level::Sequence => {
                let pairs = group.completions.iter().zip(advantages);
                pairs.map(|(completion, &advantage)| vec![advantage; completion.logprob.len()]).collect()
            }
            Level::Node => node_advantage::of_tokens(group, advantages),
        }
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
