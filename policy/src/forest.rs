//! The token forest: every prompt once as a trunk, every prefix-tree node of its items once as a branch row.
//!
//! ```text
//! rows of a tree:   p0 p1 .. p(P-1) | n1 n2 n3 ..        trunk, then branch rows with parents before children
//! ```
//! A branch row holds the token that enters its prefix-tree node; the row of a leaf is never needed, because nothing is
//! asked behind the end token. In catalog space forced tokens have log-probability 0, so rows behind the last decision of
//! an item are not needed either (method 5.4, 5.5).

use crate::{
    kernels::{
        attention::{Segment, Visibility},
        score::Decisions,
    },
    rows::{Kept, Rows},
};
use riser_core::{ids::NodeId, logprob_space::LogprobSpace, prefix_tree::PrefixTree};
use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

/// Where the log-probability of each token of an item stands among the forest's edges; `None` means forced: it is 0.
pub type ItemEdges = Vec<Option<u32>>;

/// A batch of trees, ready for the model.
#[derive(Debug)]
pub struct Forest {
    pub(crate) rows: Rows,
    pub(crate) decisions: Arc<Decisions>,
}

impl Forest {
    /// Number of rows the model computes.
    pub fn num_rows(&self) -> usize {
        self.rows.tokens.len()
    }

    /// Number of edges whose log-probability is computed.
    pub fn num_edges(&self) -> usize {
        self.decisions.edges.len()
    }
}

/// Builds a [`Forest`] tree by tree.
pub struct ForestBuilder<'c> {
    catalog: &'c PrefixTree,
    space: LogprobSpace,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    all: Visibility,
    kept: Visibility,
    kept_rows: Vec<u32>,
    decisions: Decisions,
}

/// The branch rows of the tree under construction.
struct Branches {
    trunk: Range<usize>,
    /// Row that holds the state at a prefix-tree node.
    row_of: HashMap<NodeId, usize>,
    decision_of: HashMap<NodeId, usize>,
    /// Key rows of each branch row's path.
    paths: Vec<Range<usize>>,
    /// (decision, child) pairs that are asked for.
    asked: BTreeSet<(u32, u32)>,
}

impl<'c> ForestBuilder<'c> {
    /// An empty forest over `catalog`.
    pub fn new(catalog: &'c PrefixTree, space: LogprobSpace) -> Self {
        Self {
            catalog,
            space,
            tokens: vec![],
            positions: vec![],
            all: Visibility::default(),
            kept: Visibility::default(),
            kept_rows: vec![],
            decisions: Decisions::new(),
        }
    }

    /// Number of rows so far.
    pub fn num_rows(&self) -> usize {
        self.tokens.len()
    }

    /// Adds a prompt and the items (leaves) whose tokens are to be scored after it.
    ///
    /// Returns, for each leaf, where its tokens' log-probabilities will stand. Items may repeat and share prefixes.
    ///
    /// # Panics
    /// If the prompt is empty: the first token of an item needs a state to be predicted from.
    pub fn tree(&mut self, prompt: &[u32], leaves: &[NodeId]) -> Vec<ItemEdges> {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let start = self.tokens.len();
        self.tokens.extend_from_slice(prompt);
        self.positions.extend(0..prompt.len() as u32);
        let trunk = start..self.tokens.len();
        let kept_start = self.kept_rows.len();
        let mut branches = Branches {
            row_of: HashMap::from([(PrefixTree::ROOT, trunk.end - 1)]),
            decision_of: HashMap::new(),
            paths: vec![],
            asked: BTreeSet::new(),
            trunk,
        };
        let items: Vec<Vec<Option<(u32, u32)>>> =
            leaves.iter().map(|&leaf| self.item(&mut branches, prompt.len(), leaf)).collect();
        let first_edge = self.decisions.edges.len();
        self.decisions.edges.extend(&branches.asked);
        self.close(branches, kept_start);
        // Each tree's decisions follow those of the trees before, so its part of the list is sorted too.
        let edges = &self.decisions.edges[first_edge..];
        let index = |pair| (first_edge + edges.partition_point(|edge| *edge < pair)) as u32;
        items.into_iter().map(|item| item.into_iter().map(|pair| pair.map(index)).collect()).collect()
    }

    /// The finished forest.
    pub fn build(self) -> Forest {
        let Self { tokens, positions, mut all, mut kept, kept_rows, decisions, .. } = self;
        all.num_rows = tokens.len();
        kept.num_rows = kept_rows.len();
        let kept = Kept { rows: kept_rows, visible: Arc::new(kept) };
        let rows = Rows { tokens, positions, visible: Arc::new(all), kept: Some(kept) };
        Forest { rows, decisions: Arc::new(decisions) }
    }

    /// Adds the rows and decisions along one item; returns its asked (decision, child) pairs.
    fn item(&mut self, branches: &mut Branches, prompt_len: usize, leaf: NodeId) -> Vec<Option<(u32, u32)>> {
        let nodes = self.catalog.nodes_to(leaf);
        let is_asked = |node| self.space == LogprobSpace::Vocabulary || self.catalog.num_children(node) > 1;
        let states = &nodes[..nodes.len() - 1];
        let needed = states.iter().rposition(|&node| is_asked(node)).map_or(0, |last| last + 1);
        let asked: Vec<bool> = states.iter().map(|&node| is_asked(node)).collect();
        let mut pairs = vec![None; states.len()];
        for t in 0..needed {
            let node = states[t];
            if !branches.row_of.contains_key(&node) {
                let row = self.branch_row(branches, states[t - 1], node, prompt_len + t - 1);
                branches.row_of.insert(node, row);
            }
            if asked[t] {
                let children = self.catalog.children(node);
                let decision = *branches.decision_of.entry(node).or_insert_with(|| {
                    self.kept_rows.push(branches.row_of[&node] as u32);
                    self.decisions.push(children.tokens)
                });
                let child = self.decisions.children(decision).start + (nodes[t + 1].0 - children.first.0) as usize;
                let pair = (decision as u32, child as u32);
                branches.asked.insert(pair);
                pairs[t] = Some(pair);
            }
        }
        pairs
    }

    fn branch_row(&mut self, branches: &mut Branches, parent: NodeId, node: NodeId, position: usize) -> usize {
        let row = self.tokens.len();
        self.tokens.push(self.catalog.token_into(node).expect("only the root is entered by no token"));
        self.positions.push(position as u32);
        let start = self.all.path.len();
        let parent_row = branches.row_of[&parent];
        if parent_row >= branches.trunk.end {
            self.all.path.extend_from_within(branches.paths[parent_row - branches.trunk.end].clone());
        }
        self.all.path.push(row as u32);
        branches.paths.push(start..self.all.path.len());
        row
    }

    /// Records what the rows of the finished tree see.
    fn close(&mut self, branches: Branches, kept_start: usize) {
        let Branches { trunk, paths, .. } = branches;
        let kept_rows = &self.kept_rows[kept_start..];
        let mut kept_paths = Vec::with_capacity(kept_rows.len());
        for &row in kept_rows {
            let start = self.kept.path.len();
            if let Some(branch) = (row as usize).checked_sub(trunk.end) {
                self.kept.path.extend_from_slice(&self.all.path[paths[branch].clone()]);
            }
            kept_paths.push(start..self.kept.path.len());
        }
        self.kept.trees.push(vec![Segment {
            rows: kept_start..self.kept_rows.len(),
            keys: trunk.clone(),
            is_causal: false,
            paths: kept_paths,
        }]);
        let of_trunk =
            Segment { rows: trunk.clone(), keys: trunk.clone(), is_causal: true, paths: vec![0..0; trunk.len()] };
        let of_branches = Segment { rows: trunk.end..self.tokens.len(), keys: trunk, is_causal: false, paths };
        self.all.trees.push(vec![of_trunk, of_branches]);
    }
}
