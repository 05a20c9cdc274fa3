//! Building a sub-tree from the leaves it should reach.

use super::SubTree;
use crate::{ids::NodeId, prefix_tree::PrefixTree};
use std::collections::HashMap;

impl SubTree {
    /// The smallest sub-tree of `tree` that reaches all `leaves`, and the entry of each leaf in the order given.
    ///
    /// `logprob(before, token)` supplies the log-probability of each step.
    ///
    /// # Panics
    /// If a leaf is not a node of `tree`.
    pub fn spanning(
        tree: &PrefixTree,
        leaves: &[NodeId],
        mut logprob: impl FnMut(NodeId, u32) -> f32,
    ) -> (Self, Vec<u32>) {
        let mut subtree = Self::default();
        let mut entry_of: HashMap<NodeId, u32> = HashMap::new();
        let ends = leaves.iter().map(|&leaf| {
            let (mut before, mut parent) = (PrefixTree::ROOT, Self::TRUNK);
            for token in tree.path(leaf) {
                let node = tree.step(before, token).expect("a path is made of legal steps");
                parent = *entry_of.entry(node).or_insert_with(|| {
                    subtree.parent.push(parent);
                    subtree.token.push(token);
                    subtree.node.push(node);
                    subtree.logprob.push(logprob(before, token));
                    subtree.children.push(tree.num_children(before) as u32);
                    subtree.parent.len() as u32 - 1
                });
                before = node;
            }
            parent
        });
        let ends = ends.collect();
        (subtree, ends)
    }
}
