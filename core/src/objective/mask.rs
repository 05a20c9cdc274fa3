//! The certainty mask: forced tokens count less.

use serde::{Deserialize, Serialize};

/// Weights of tokens in both losses.
///
/// ```text
/// M_t = 1       if children_t >= 2   (branching: the token chooses between items)
/// M_t = decay   if children_t  = 1   (forced by the catalog)
/// ```
///
/// (RISER paper, method 1.3: decay 0.7.) Whether a token is forced is decided by the prefix tree, not by the model's
/// confidence. Averages over tokens divide by the [`Denominator`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Weight of forced tokens, from 0 (ignored) to 1 (no mask).
    pub decay: f64,
    /// What averages over tokens divide by.
    pub denominator: Denominator,
}

/// What a masked average divides by (our choice: `weight`, which is what replacing the completion mask of TRL or verl by
/// the certainty mask does).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    /// The sum of the weights.
    Weight,
    /// The number of tokens.
    Count,
}

impl Mask {
    /// The weight of a token with that many legal children before it.
    pub(super) fn weight(self, children: u32) -> f64 {
        if children > 1 { 1.0 } else { self.decay }
    }

    /// What an average over these tokens divides by; 0 if all of them are forced and the decay is 0.
    pub(super) fn denominator(self, children: &[u32]) -> f64 {
        match self.denominator {
            Denominator::Weight => children.iter().map(|&count| self.weight(count)).sum(),
            Denominator::Count => children.len() as f64,
        }
    }
}

/// `1 / denominator`, or 0 where there is no weight: an average over nothing contributes nothing.
pub(super) fn reciprocal(denominator: f64) -> f64 {
    if denominator > 0.0 { denominator.recip() } else { 0.0 }
}
