//! Information of tokens from the list of all items, without tree or forest.

use super::*;
use crate::{exact::item_logprobs, testing::tiny_items};
use std::collections::BTreeMap;

/// All spellings with their weights for one prompt.
pub(super) struct Items {
    source: Source,
    item_entropy: f64,
    weights: BTreeMap<Vec<u32>, f64>,
}

impl Items {
    pub(super) fn of(model: &Model, catalog: &PrefixTree, group: &RolloutGroup, settings: &ReinforceSettings) -> Self {
        let (mask, items) = (settings.objective.mask, tiny_items());
        let mut weights: BTreeMap<Vec<u32>, f64> = items.iter().map(|item| (item.clone(), mask.smoothing)).collect();
        match mask.source {
            Source::Catalog => {}
            Source::Popularity => chosen().for_each(|item| *weights.get_mut(&items[item.0 as usize]).unwrap() += 1.0),
            Source::Policy => {
                let logprobs = item_logprobs(model, catalog, &group.prompt, LogprobSpace::Catalog, 1.0).unwrap();
                weights.extend(items.into_iter().zip(logprobs).map(|(item, logprob)| (item, f64::from(logprob).exp())));
            }
        }
        Self { source: mask.source, item_entropy: f64::from(group.stats.item_entropy), weights }
    }

    /// Mass and entropy of what begins with `prefix`.
    fn below(&self, prefix: &[u32]) -> (f64, f64) {
        let weights: Vec<f64> =
            self.weights.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, weight)| *weight).collect();
        let mass: f64 = weights.iter().sum();
        (mass, -weights.iter().map(|weight| weight / mass).map(|p| p * p.ln()).sum::<f64>())
    }

    /// The share of each token of an item.
    pub(super) fn shares(&self, path: &[u32]) -> Vec<f64> {
        let entropy = |end: usize| self.below(&path[..end]).1;
        if self.source != Source::Policy {
            let gains: Vec<f64> = (0..path.len()).map(|t| (entropy(t) - entropy(t + 1)).max(0.0)).collect();
            let total: f64 = gains.iter().sum();
            return gains.iter().map(|gain| gain / total).collect();
        }
        // What is expected to be gained at a node, over all tokens that may follow.
        let expected = |t: usize| {
            let (mass, before) = self.below(&path[..t]);
            let after = (0..23).map(|token| self.below(&[&path[..t], &[token]].concat()));
            before - after.filter(|(mass, _)| *mass > 0.0).map(|(part, entropy)| part / mass * entropy).sum::<f64>()
        };
        (0..path.len()).map(|t| (expected(t) / self.item_entropy).clamp(0.0, 1.0)).collect()
    }
}
