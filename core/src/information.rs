//! How much each token of an item tells about the item.
//!
//! With `H(v)` the entropy over the items below a node `v` of the prefix tree, in nats, a token that leads from `v` to `c` has the
//! **information gain** `H(v) - H(c)`. Along the path of an item the gains sum to the entropy at the root; forced tokens gain nothing.
//! Items of one spelling cannot be told apart and count as one leaf.
//!
//! The objective weighs tokens by their [shares](crate::objective::Mask) of that information (method 6.4 (a)). The gains are those of
//! an [`ItemPrior`], known from the catalog, or expected ones of the policy, which are its entropies at the nodes (method 1.8).

use crate::{
    digest::Digest,
    ids::{ItemIndex, NodeId},
    prefix_tree::PrefixTree,
};

/// A distribution over the leaves of a catalog that does not depend on the prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemPrior {
    /// All leaves alike.
    Uniform,
    /// Leaves by how often they were chosen.
    Popularity(Popularity),
}

impl ItemPrior {
    /// Entropy over the leaves below `node` in nats: `ln n` of n like ones, else `ln W - sum_l w_l ln w_l / W` with `W = sum_l w_l`.
    ///
    /// # Panics
    /// If `node` is not of `tree`, or `tree` is not the one that the popularity was counted on.
    pub fn entropy(&self, tree: &PrefixTree, node: NodeId) -> f64 {
        match self {
            Self::Uniform => (tree.num_leaves_below(node) as f64).ln(),
            Self::Popularity(popularity) => popularity.entropy(tree, node),
        }
    }

    /// Information gain of each step of a walk in nats.
    ///
    /// A gain may be negative where the likely leaves of a node are left for many like ones; never if the prior is uniform.
    ///
    /// # Shapes
    /// - `nodes`: `[T + 1]` neighbouring nodes, from above to below; returns `[T]`
    ///
    /// # Panics
    /// As [`entropy`](Self::entropy).
    pub fn gains(&self, tree: &PrefixTree, nodes: &[NodeId]) -> Vec<f64> {
        let mut before = nodes.first().map_or(0.0, |&node| self.entropy(tree, node));
        let gain = |pair: &[NodeId]| match tree.num_children(pair[0]) {
            1 => 0.0,
            _ => {
                let after = self.entropy(tree, pair[1]);
                std::mem::replace(&mut before, after) - after
            }
        };
        nodes.windows(2).map(gain).collect()
    }
}

/// How often each leaf of a catalog was chosen, summed up so that what lies below a node is a few differences: 16 bytes a leaf.
#[derive(Clone, PartialEq)]
pub struct Popularity {
    catalog: Digest,
    /// `[leaves + 1]` summed weights of the leaves before each, by place.
    weight: Vec<f64>,
    /// `[leaves + 1]` the same of `w ln w`.
    weight_log: Vec<f64>,
}

impl Popularity {
    /// Counts the choices of each leaf; each has `smoothing` more than that (above 0, since the unseen is possible too).
    pub fn count(tree: &PrefixTree, chosen: impl Iterator<Item = ItemIndex>, smoothing: f64) -> Self {
        let mut weights = vec![smoothing; tree.num_leaves()];
        chosen.for_each(|item| weights[tree.leaf_place(item)] += 1.0);
        let summed = |of: fn(f64) -> f64| {
            let mut sum = 0.0;
            let sums = weights.iter().map(|&weight| {
                sum += of(weight);
                sum
            });
            std::iter::once(0.0).chain(sums).collect()
        };
        let weight_log = summed(|weight| weight * weight.ln());
        Self { catalog: tree.digest(), weight: summed(|weight| weight), weight_log }
    }

    /// The catalog that it was counted on.
    pub fn catalog(&self) -> Digest {
        self.catalog
    }

    fn entropy(&self, tree: &PrefixTree, node: NodeId) -> f64 {
        assert_eq!(self.catalog, tree.digest(), "a popularity is that of one catalog");
        let (mut leaves, mut weight, mut weight_log) = (0, 0.0, 0.0);
        for run in tree.leaves_below(node) {
            leaves += run.len();
            weight += self.weight[run.end] - self.weight[run.start];
            weight_log += self.weight_log[run.end] - self.weight_log[run.start];
        }
        // Of one leaf it is 0; rounding must not make it anything else.
        if leaves == 1 { 0.0 } else { (weight.ln() - weight_log / weight).max(0.0) }
    }
}

impl std::fmt::Debug for Popularity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let leaves = self.weight.len() - 1;
        formatter.debug_struct("Popularity").field("catalog", &self.catalog).field("leaves", &leaves).finish()
    }
}

/// Share of a path's information that each of its tokens gives: `max(gain_t, 0) / sum_s max(gain_s, 0)`.
///
/// Without negative gains this is `gain_t / H` with the entropy `H` at the root (method 6.4 (a)). That a negative gain counts as 0,
/// and that the shares of a path sum to 1 even so, is our choice. All are 0 where nothing is gained.
pub fn shares_of_gains(mut gains: Vec<f64>) -> Vec<f64> {
    gains.iter_mut().for_each(|gain| *gain = gain.max(0.0));
    let total: f64 = gains.iter().sum();
    if total > 0.0 {
        gains.iter_mut().for_each(|gain| *gain /= total);
    }
    gains
}

/// Share of the policy's uncertainty that is expected to go at each token: `min(h_t / H, 1)` with the policy's entropy `h_t` over the
/// children at that place and an estimate `H` of its entropy over items.
///
/// By the chain rule (method 1.8) `h_t` is the expected information gain, and the mean sum of the `h_t` over samples is `H`, so the
/// shares of a sample sum to 1 on average. The bound is our choice: an unlikely path may lead through more entropy than there is at
/// the root. All are 0 where the policy is certain.
pub fn shares_of_entropies(mut entropies: Vec<f64>, item_entropy: f64) -> Vec<f64> {
    let share = |entropy: f64| if item_entropy > 0.0 { (entropy / item_entropy).clamp(0.0, 1.0) } else { 0.0 };
    entropies.iter_mut().for_each(|entropy| *entropy = share(*entropy));
    entropies
}

#[cfg(test)]
mod tests;
