//! The mask: tokens that say less about the item count less.

use serde::{Deserialize, Serialize};

/// Weights of tokens in both losses.
///
/// ```text
/// M_t = decay + (1 - decay) * g_t
///
/// certainty          g_t = 1 before a choice, 0 if the catalog forces the token     RISER paper, decay 0.7 (method 1.3)
/// information_gain   g_t = share of the item's information that the token gives     method 6.4 (a); decay is its alpha
/// ```
///
/// Both laws are read from the prefix tree, not from the model's confidence in a token, and both leave forced tokens the weight
/// `decay`. Weights are constants to the gradient. Averages over tokens divide by the [`Denominator`].
///
/// The information is that of a [`Source`]; `smoothing` and `source` do nothing under `certainty`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// How tokens before a choice are told apart.
    #[serde(default)]
    pub law: MaskLaw,
    /// Weight of tokens that say nothing, from 0 (ignored) to 1 (no mask).
    pub decay: f64,
    /// Whose information counts.
    #[serde(default)]
    pub source: Source,
    /// Choices that `popularity` adds to those counted of each spelling (our choice: 1).
    #[serde(default = "Mask::default_smoothing")]
    pub smoothing: f64,
    /// What averages over tokens divide by.
    pub denominator: Denominator,
}

/// How tokens before a choice are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskLaw {
    /// Not at all: each has weight 1.
    #[default]
    Certainty,
    /// By what they say about the item.
    InformationGain,
}

/// Whose information counts under `information_gain`, with the nodes `v` before and `c` behind the token.
///
/// ```text
/// catalog      g_t = (H(v) - H(c)) / H(root)                 H over the leaves below, all alike
/// popularity   g_t = max(H(v) - H(c), 0) / sum over the item H over the leaves below, by how often training rows chose them
/// policy       g_t = min(h(v) / H_item, 1)                   h of the policy over the children, H_item over items (method 1.8)
/// ```
///
/// See [`information`](crate::information) for what is our choice in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The list of items.
    #[default]
    Catalog,
    /// The items that training rows chose.
    Popularity,
    /// The policy in training, prompt by prompt.
    Policy,
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

/// What the mask looks at in a sequence of `T` tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Masked<'a> {
    /// `[T]` number of legal children before each token.
    pub(super) children: &'a [u32],
    /// `[T]` share of the information, or empty under `certainty`.
    pub(super) information: &'a [f64],
}

impl Mask {
    /// Choices that are added to those counted of each spelling unless told otherwise (our choice).
    pub const SMOOTHING: f64 = 1.0;

    fn default_smoothing() -> f64 {
        Self::SMOOTHING
    }

    /// Whether information is looked at.
    pub(super) fn uses_information(self) -> bool {
        self.law == MaskLaw::InformationGain
    }

    /// The weight of every token.
    pub(super) fn weights(self, tokens: Masked<'_>) -> impl Iterator<Item = f64> {
        let of_token = move |(t, &children): (usize, &u32)| match self.law {
            MaskLaw::Certainty if children > 1 => 1.0,
            MaskLaw::Certainty => self.decay,
            MaskLaw::InformationGain => self.decay + (1.0 - self.decay) * tokens.information[t],
        };
        tokens.children.iter().enumerate().map(of_token)
    }

    /// What an average over these tokens divides by; 0 if none of them has a weight.
    pub(super) fn denominator(self, tokens: Masked<'_>) -> f64 {
        match self.denominator {
            Denominator::Weight => self.weights(tokens).sum(),
            Denominator::Count => tokens.children.len() as f64,
        }
    }
}

/// `1 / denominator`, or 0 where there is no weight: an average over nothing contributes nothing.
pub(super) fn reciprocal(denominator: f64) -> f64 {
    if denominator > 0.0 { denominator.recip() } else { 0.0 }
}
