//! Forced runs, as the tree alone tells them: what a visit costs, and where it closes.

use riser_core::{ids::NodeId, logprob_space::LogprobSpace, prefix_tree::PrefixTree};

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
