//! What a search asks of the model, counted by what the tree says of each visit.

use crate::descent::Visit;
use riser_core::{ids::NodeId, logprob_space::LogprobSpace, prefix_tree::PrefixTree};
use std::ops::AddAssign;

/// Rows and passes of one or several descents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Rows that the model computed, those of prompts included.
    pub rows: usize,
    /// Passes of the model.
    pub passes: usize,
}

impl Work {
    /// Counts the start of a descent.
    pub(crate) fn start(&mut self, catalog: &PrefixTree, space: LogprobSpace, prompts: &[&[u32]]) {
        let root = catalog.children(PrefixTree::ROOT);
        let is_forced = root.tokens.len() == 1 && !catalog.is_leaf(root.node(0));
        let forced = if is_forced { rows_behind(catalog, space, root.node(0)) } else { 0 };
        self.rows += prompts.iter().map(|prompt| prompt.len() + forced).sum::<usize>();
        self.passes += 1 + usize::from(forced > 0);
    }

    /// Counts an expansion.
    pub(crate) fn expand(&mut self, catalog: &PrefixTree, space: LogprobSpace, visits: &[Visit]) {
        let rows: usize = visits.iter().map(|visit| rows_behind(catalog, space, visit.node)).sum();
        self.rows += rows;
        self.passes += usize::from(rows > 0);
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.passes += other.passes;
    }
}

/// Rows that a visit of `node` costs: its forced run, as far as something is asked at or behind it. A leaf's own row is never
/// needed, and in catalog space none of a run that ends in one (method 5.4).
pub(crate) fn rows_behind(catalog: &PrefixTree, space: LogprobSpace, node: NodeId) -> usize {
    let end = catalog.end_of_run(node);
    // The nodes behind the first of a run are numbered one after the other.
    let run = if end == node { 1 } else { (end.0 - catalog.children(node).first.0) as usize + 2 };
    match (catalog.is_leaf(end), space) {
        (false, _) => run,
        (true, LogprobSpace::Vocabulary) => run - 1,
        (true, LogprobSpace::Catalog) => 0,
    }
}

/// The leaf at which `node` closes at once: itself, or in catalog space the one that only forced tokens lead to, which cost
/// nothing there.
pub(crate) fn closes_at(catalog: &PrefixTree, space: LogprobSpace, node: NodeId) -> Option<NodeId> {
    let end = match space {
        LogprobSpace::Catalog => catalog.end_of_run(node),
        LogprobSpace::Vocabulary => node,
    };
    catalog.is_leaf(end).then_some(end)
}
