//! A ranked list of spellings, and what it says about items.

use riser_core::{
    ids::{ItemIndex, NodeId},
    prefix_tree::PrefixTree,
};
use std::cmp::Ordering;

/// A spelling with its summed log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Leaf of the prefix tree.
    pub leaf: NodeId,
    /// Summed log-probability of its tokens, natural log.
    pub score: f64,
}

impl Ranked {
    /// The order of lists: higher score first, ties to the smaller node.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.leaf.cmp(&other.leaf))
    }

    /// Puts this spelling in its place of a list that keeps the `limit` best, best first.
    pub(crate) fn insert_into(self, list: &mut Vec<Self>, limit: usize) {
        let at = list.partition_point(|other| other.order(&self).is_lt());
        if at < limit {
            list.insert(at, self);
            list.truncate(limit);
        }
    }
}

/// The items of a ranked list in rank order. Items that are spelled alike take consecutive ranks in catalog order: the
/// policy cannot tell them apart, so a hit by item id is only counted once per rank (our choice).
pub fn items(catalog: &PrefixTree, ranked: &[Ranked]) -> Vec<(ItemIndex, f64)> {
    ranked.iter().flat_map(|ranked| catalog.items_at(ranked.leaf).iter().map(|&item| (item, ranked.score))).collect()
}
