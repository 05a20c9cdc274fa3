//! How token losses become one policy loss.

use super::{Group, Mask, mask::reciprocal};
use serde::{Deserialize, Serialize};

/// How the masked token losses `M_t l_t` of the passing groups are averaged; `D` is the mask's denominator.
///
/// ```text
/// token_mean                 sum_it M l / sum_i D_i            long and short items weigh by their tokens (our choice)
/// sequence_mean_token_mean   mean_i (sum_t M l / D_i)          every completion weighs the same (GRPO as published)
/// sequence_mean_token_sum    mean_i  sum_t M l                 no length normalisation (Dr. GRPO)
/// ```
///
/// (method 1.2; means over i run over all completions of passing groups.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Over all tokens at once.
    TokenMean,
    /// Over the tokens of each completion, then over completions.
    SequenceMeanTokenMean,
    /// Summed over the tokens of each completion, then averaged over completions.
    SequenceMeanTokenSum,
}

impl Aggregate {
    /// The factor of each completion's masked token losses in the policy loss.
    ///
    /// # Shapes
    /// - `passed`: the passing groups; returns one entry per completion of them, in order
    pub(super) fn scales<'a>(self, mask: Mask, passed: impl Iterator<Item = &'a Group>) -> Vec<f64> {
        let denominators: Vec<f64> = passed
            .flat_map(|group| &group.completions)
            .map(|completion| mask.denominator(completion.masked()))
            .collect();
        let num_completions = denominators.len() as f64;
        match self {
            Self::TokenMean => vec![reciprocal(denominators.iter().sum()); denominators.len()],
            Self::SequenceMeanTokenMean => {
                denominators.iter().map(|&denominator| reciprocal(denominator) / num_completions).collect()
            }
            Self::SequenceMeanTokenSum => vec![reciprocal(num_completions); denominators.len()],
        }
    }
}
