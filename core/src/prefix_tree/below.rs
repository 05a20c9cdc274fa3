//! What lies below a node.
//!
//! Chains are numbered breadth first, so those that lie equally many choices below a node follow each other, and so do the leaves
//! among them. A node's leaves are therefore a few runs, one for each further choice, found without a table of their own.

use super::{PrefixTree, layout::Section};
use crate::ids::{ItemIndex, NodeId};
use std::ops::Range;

impl PrefixTree {
    /// The leaves below `node`, or `node` itself if it is one, as runs of their places among all leaves (`0 .. num_leaves`): one run
    /// for each number of choices between, from the top.
    ///
    /// # Panics
    /// If `node` is not of this tree.
    pub fn leaves_below(&self, node: NodeId) -> impl Iterator<Item = Range<usize>> + '_ {
        let first_head = self.array(Section::FirstHead);
        let chain = self.chain_through(node);
        let mut chains = chain..chain + 1;
        std::iter::from_fn(move || {
            if chains.is_empty() {
                return None;
            }
            let choices = self.choices_of(&chains);
            let leaves = (chains.start - choices.start) as usize..(chains.end - choices.end) as usize;
            // Choices of neighbours are neighbours, and so are the heads they are between.
            chains = first_head[choices.start as usize]..first_head[choices.end as usize];
            Some(leaves)
        })
    }

    /// Number of distinct spellings that go through `node`.
    ///
    /// # Panics
    /// If `node` is not of this tree.
    pub fn num_leaves_below(&self, node: NodeId) -> usize {
        self.leaves_below(node).map(|run| run.len()).sum()
    }

    /// The place of an item's leaf among all leaves.
    ///
    /// # Panics
    /// If the item is not of this tree.
    pub fn leaf_place(&self, item: ItemIndex) -> usize {
        let chain = self.chain_through(self.leaf_of(item));
        (chain - self.choices_before(chain)) as usize
    }

    fn chain_through(&self, node: NodeId) -> u32 {
        let link = (node.0 as usize).checked_sub(self.num_chains());
        link.map_or(node.0, |link| self.chain_of(link) as u32)
    }
}
