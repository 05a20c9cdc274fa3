//! How much of an item is decided and how much is forced.

use super::Summary;
use crate::{
    dataset::Row,
    ids::{ItemIndex, NodeId},
    prefix_tree::PrefixTree,
};
use serde::{Deserialize, Serialize};

/// Token positions shown in [`SpellingReport::forced_by_position`].
const POSITIONS: usize = 12;

/// The prefix tree in figures (method.md 1.3). A token is *forced* where the tree has one continuation, a *decision* where it
/// has several; the end token counts like any other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpellingReport {
    /// Tokens of an item, end token included.
    pub tokens: Summary,
    /// Share of forced tokens over the catalog.
    pub forced_share: f64,
    /// The same over the targets of the test rows.
    pub forced_share_of_test_targets: Option<f64>,
    /// Mean number of decisions of an item.
    pub decisions: f64,
    /// Mean position of an item's last decision, the first token being 1; 0 for an item without one.
    pub last_decision: f64,
    /// Share of forced tokens at each position, over the items that are that long.
    pub forced_by_position: Vec<f64>,
    /// All nodes.
    pub nodes: u64,
    /// Distinct spellings.
    pub leaves: u64,
    /// Items that share their leaf with another item.
    pub items_sharing_leaf: u64,
    /// Nodes with at least one child.
    pub internal: u64,
    /// Nodes with at least two children.
    pub branching: u64,
    /// Nodes on the way to a branching node, or branching themselves: all that has to be computed to score every item.
    pub core: u64,
    /// Children of the root.
    pub root_children: u64,
    /// Most children of any node.
    pub max_children: u64,
    /// Mean number of children of a branching node.
    pub mean_children: f64,
}

/// An item as a walk: for each of its tokens, whether it was a decision.
fn decisions(tree: &PrefixTree, item: ItemIndex) -> Vec<bool> {
    let mut node = PrefixTree::ROOT;
    let path = tree.path(tree.leaf_of(item));
    let walk = path.iter().map(|&token| {
        let is_decision = tree.num_children(node) > 1;
        node = tree.step(node, token).expect("the path of a leaf is in the tree");
        is_decision
    });
    walk.collect()
}

impl SpellingReport {
    /// Measures a tree and the targets of the test rows.
    pub fn measure(tree: &PrefixTree, test: &[Row]) -> Self {
        let num_items = tree.num_items();
        let walks: Vec<Vec<bool>> = (0..num_items as u32).map(|item| decisions(tree, ItemIndex(item))).collect();
        let forced = |walk: &[bool]| walk.iter().filter(|is_decision| !**is_decision).count();
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        let share_over = |walks: &[&Vec<bool>]| {
            share(walks.iter().map(|walk| forced(walk)).sum(), walks.iter().map(|walk| walk.len()).sum())
        };
        let all: Vec<&Vec<bool>> = walks.iter().collect();
        let targets: Vec<&Vec<bool>> = test.iter().map(|row| &walks[row.target.0 as usize]).collect();
        let last_decision = |walk: &Vec<bool>| walk.iter().rposition(|is_decision| *is_decision).map_or(0, |at| at + 1);
        let at_position = |at: usize| {
            let there: Vec<bool> = walks.iter().filter_map(|walk| walk.get(at).copied()).collect();
            (!there.is_empty()).then(|| share(forced(&there), there.len()))
        };

        let nodes: Vec<NodeId> = (0..tree.num_nodes() as u32).map(NodeId).collect();
        let children: Vec<usize> = nodes.iter().map(|&node| tree.num_children(node)).collect();
        let branching = children.iter().filter(|&&children| children > 1).count();
        let alone =
            (0..num_items as u32).filter(|&item| tree.items_at(tree.leaf_of(ItemIndex(item))).len() == 1).count();
        Self {
            tokens: Summary::of(walks.iter().map(Vec::len)),
            forced_share: share_over(&all),
            forced_share_of_test_targets: (!targets.is_empty()).then(|| share_over(&targets)),
            decisions: share(walks.iter().map(|walk| walk.len() - forced(walk)).sum(), num_items),
            last_decision: share(walks.iter().map(last_decision).sum(), num_items),
            forced_by_position: (0..POSITIONS).map_while(at_position).collect(),
            nodes: nodes.len() as u64,
            leaves: nodes.iter().filter(|&&node| tree.is_leaf(node)).count() as u64,
            items_sharing_leaf: (num_items - alone) as u64,
            internal: children.iter().filter(|&&children| children > 0).count() as u64,
            branching: branching as u64,
            core: core_nodes(tree, &children),
            root_children: children[PrefixTree::ROOT.0 as usize] as u64,
            max_children: children.iter().copied().max().unwrap_or(0) as u64,
            mean_children: share(children.iter().filter(|&&children| children > 1).sum(), branching),
        }
    }
}

/// Counts the nodes that are branching or above a branching node.
fn core_nodes(tree: &PrefixTree, children: &[usize]) -> u64 {
    let mut is_core = vec![false; children.len()];
    for node in (0..children.len()).filter(|&node| children[node] > 1) {
        let mut above = Some(NodeId(node as u32));
        while let Some(node) = above.filter(|node| !is_core[node.0 as usize]) {
            is_core[node.0 as usize] = true;
            above = tree.parent(node);
        }
    }
    is_core.into_iter().filter(|is_core| *is_core).count() as u64
}
