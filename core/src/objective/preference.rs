//! SimPO: what a group without a hit teaches.

use super::{
    Completion, Group, Mask,
    mask::{Masked, reciprocal},
    outcome::Gradient,
    surrogate::Term,
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The preference loss of failing groups.
///
/// ```text
/// s(y) = sum_t M_t l_t / D(y)                                             masked average log-probability
/// L    = mean over pairs of -log sigmoid(beta * (s(target) - s(completion)) - gamma)
/// ```
///
/// then the mean over failing groups (RISER paper; method 1.5). There is no reference model. beta = 2 and
/// gamma = beta / 2 are our choice, after the SimPO authors' advice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simpo {
    /// Factor of the score difference.
    pub beta: f64,
    /// Margin the scaled difference should exceed.
    pub gamma: f64,
    /// What becomes of completions that spell the same item.
    pub duplicates: Duplicates,
}

/// What becomes of completions of a group that spell the same item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// One pair per distinct item, the first completion standing for all (our choice).
    Collapse,
    /// One pair per completion.
    Keep,
}

/// The preference loss of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PreferenceLoss {
    pub(super) loss: f64,
    pub(super) pairs: usize,
}

impl Simpo {
    /// Evaluates the loss over the groups `failed` and adds `weight` times its gradient to `gradient`.
    ///
    /// A failing group whose target was left out (allowed only where the loss has weight 0) is passed over.
    pub(super) fn loss(
        &self,
        mask: Mask,
        groups: &[Group],
        failed: &[usize],
        weight: f64,
        gradient: &mut Gradient,
    ) -> PreferenceLoss {
        let failed: Vec<usize> =
            failed.iter().copied().filter(|&index| !groups[index].target.logprob.is_empty()).collect();
        let mut result = PreferenceLoss { loss: 0.0, pairs: 0 };
        for &group_index in &failed {
            let Group { completions, target } = &groups[group_index];
            let pairs = self.rejected(completions);
            let share = 1.0 / (pairs.len() as f64 * failed.len() as f64);
            let target_score = score(mask, &target.logprob, target.masked());
            result.pairs += pairs.len();
            for completion_index in pairs {
                let rejected = &completions[completion_index];
                let pair = self.pair(target_score, score(mask, &rejected.logprob, rejected.masked()));
                result.loss += share * pair.value;
                let slope = weight * share * pair.slope;
                add_score_gradient(mask, target.masked(), slope, &mut gradient.targets[group_index]);
                let entries = &mut gradient.completions[group_index][completion_index];
                add_score_gradient(mask, rejected.masked(), -slope, entries);
            }
        }
        result
    }

    /// The loss of one pair; the slope is with respect to the preferred score, the other one's is its negative.
    fn pair(&self, preferred: f64, rejected: f64) -> Term {
        let margin = self.beta * (preferred - rejected) - self.gamma;
        // -log sigmoid(margin), written so that neither tail overflows
        let value = (-margin.abs()).exp().ln_1p() + (-margin).max(0.0);
        Term { value, slope: -self.beta / (1.0 + margin.exp()) }
    }

    /// Positions of the completions that make a pair with the target.
    fn rejected(&self, completions: &[Completion]) -> Vec<usize> {
        let mut seen = HashSet::new();
        let is_kept = |index: &usize| match self.duplicates {
            Duplicates::Keep => true,
            Duplicates::Collapse => seen.insert(completions[*index].item),
        };
        (0..completions.len()).filter(is_kept).collect()
    }
}

/// The masked average log-probability; 0 for a sequence without weight.
fn score(mask: Mask, logprob: &[f64], tokens: Masked<'_>) -> f64 {
    let weighted: f64 = logprob.iter().zip(mask.weights(tokens)).map(|(logprob, weight)| weight * logprob).sum();
    weighted * reciprocal(mask.denominator(tokens))
}

fn add_score_gradient(mask: Mask, tokens: Masked<'_>, slope: f64, gradient: &mut [f64]) {
    let scale = slope * reciprocal(mask.denominator(tokens));
    for (entry, weight) in gradient.iter_mut().zip(mask.weights(tokens)) {
        *entry += scale * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_loss_has_the_published_values() {
        // method 1.5
        let simpo = Simpo { beta: 2.0, gamma: 0.5, duplicates: Duplicates::Keep };
        let pair = simpo.pair(-0.5, -1.5);
        assert!((pair.value - 0.201_413_3).abs() < 5e-8, "{pair:?}");
        assert!((pair.slope + 0.364_851_0).abs() < 5e-8, "{pair:?}");
        let sharp = Simpo { beta: 10.0, gamma: 3.0, duplicates: Duplicates::Keep };
        assert!((sharp.pair(-0.3, -0.5).value - 1.313_261_7).abs() < 5e-8);
    }

    #[test]
    fn hopeless_and_perfect_pairs_neither_overflow_nor_vanish() {
        let simpo = Simpo { beta: 2.0, gamma: 1.0, duplicates: Duplicates::Keep };
        let hopeless = simpo.pair(-1000.0, 0.0);
        assert_eq!((hopeless.value, hopeless.slope), (2001.0, -2.0));
        let perfect = simpo.pair(0.0, -1000.0);
        assert_eq!((perfect.value, perfect.slope), (0.0, 0.0));
    }
}
