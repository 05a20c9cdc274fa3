//! The catalog as a prefix tree of token ids: the one structure that rollouts, training and evaluation walk.
//!
//! Nodes are numbered breadth first with siblings in token order, so the tree is two flat arrays (compressed sparse rows):
//!
//! ```text
//! first_edge  [N + 1]   edges leaving node n are first_edge[n] .. first_edge[n + 1]
//! edge_token  [N - 1]   token of each edge, ascending within a node
//! ```
//!
//! Every node but the root is entered by exactly one edge and both are numbered in the same order, hence edge `e` leads to
//! node `e + 1` and no child pointers are stored. An item ends with the end token on an edge of its own, so an item that is
//! a prefix of another stays distinguishable, and items that are spelled alike share one leaf, which lists them all.

mod file;

pub use file::OpenError;

use crate::{
    digest::Digest,
    ids::{ItemIndex, NodeId},
};
use bytemuck::TransparentWrapper;
use std::ops::Deref;

/// Longest item the tree accepts, in tokens; a longer one is a broken catalog, not an item.
pub const MAX_ITEM_TOKENS: usize = 4096;

/// The prefix tree of a catalog. See the module documentation for the layout.
#[derive(Clone)]
pub struct PrefixTree {
    first_edge: Array,
    edge_token: Array,
    /// Leaf nodes in ascending order `[L]`.
    leaf_node: Array,
    /// Items of leaf `l` are `leaf_item[leaf_first_item[l] .. leaf_first_item[l + 1]]`, `[L + 1]`.
    leaf_first_item: Array,
    /// Items grouped by leaf, ascending within a leaf `[I]`.
    leaf_item: Array,
    /// Leaf node of each item `[I]`.
    item_leaf: Array,
    digest: Digest,
}

/// A `u32` array that is owned after a build and borrowed from the mapped file after an open.
#[derive(Clone)]
enum Array {
    Owned(std::sync::Arc<[u32]>),
    Mapped { map: std::sync::Arc<memmap2::Mmap>, start: usize, len: usize },
}

impl Deref for Array {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Self::Owned(values) => values,
            Self::Mapped { map, start, len } => bytemuck::cast_slice(&map[*start..*start + 4 * *len]),
        }
    }
}

impl From<Vec<u32>> for Array {
    fn from(values: Vec<u32>) -> Self {
        Self::Owned(values.into())
    }
}

/// The edges that leave a node.
#[derive(Debug, Clone, Copy)]
pub struct Children<'a> {
    /// Tokens of the edges, ascending.
    pub tokens: &'a [u32],
    /// Node at the end of the first edge; the k-th edge leads to `first + k`.
    pub first: NodeId,
}

impl Children<'_> {
    /// Node at the end of the k-th edge.
    pub fn node(&self, k: usize) -> NodeId {
        NodeId(self.first.0 + k as u32)
    }
}

/// Why a catalog has no prefix tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// There is nothing to recommend.
    #[error("the catalog is empty")]
    Empty,
    /// An item without tokens.
    #[error("item {item} is spelled with no token")]
    EmptyItem {
        /// Position in the item list.
        item: u32,
    },
    /// An item longer than [`MAX_ITEM_TOKENS`].
    #[error("item {item} is spelled with {tokens} tokens, at most {MAX_ITEM_TOKENS} are possible")]
    TooLong {
        /// Position in the item list.
        item: u32,
        /// Its length.
        tokens: usize,
    },
    /// An item whose whole spelling, end token included, begins another item.
    #[error("item {item} ends inside item {other}: both must end with the end token, and only there")]
    EndsInside {
        /// The shorter item.
        item: u32,
        /// The item that continues.
        other: u32,
    },
    /// More nodes or items than 32-bit indices hold.
    #[error("the catalog has more than {} nodes", u32::MAX)]
    TooLarge,
}

/// A token that the catalog does not allow.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("token {token} at position {position} leaves the catalog")]
pub struct WalkError {
    /// The illegal token.
    pub token: u32,
    /// Its position in the walk.
    pub position: usize,
}

impl PrefixTree {
    /// The node before the first token.
    pub const ROOT: NodeId = NodeId(0);

    /// Builds the tree; `paths[i]` spells item `i`, end token included. The result depends on nothing but `paths`.
    ///
    /// # Errors
    /// [`BuildError`] names the item that cannot be placed.
    pub fn build<P: AsRef<[u32]>>(paths: &[P]) -> Result<Self, BuildError> {
        if paths.is_empty() {
            return Err(BuildError::Empty);
        }
        let path = |item: u32| paths[item as usize].as_ref();
        let mut order: Vec<u32> = (0..u32::try_from(paths.len()).map_err(|_| BuildError::TooLarge)?).collect();
        for &item in &order {
            match path(item).len() {
                0 => return Err(BuildError::EmptyItem { item }),
                tokens if tokens > MAX_ITEM_TOKENS => return Err(BuildError::TooLong { item, tokens }),
                _ => {}
            }
        }
        order.sort_by(|&a, &b| path(a).cmp(path(b)).then(a.cmp(&b)));

        // One level at a time: a node is the run of sorted items that share its path.
        let (mut first_edge, mut edge_token) = (vec![], vec![]);
        let (mut leaf_node, mut leaf_first_item, mut leaf_item) = (vec![], vec![0], Vec::with_capacity(paths.len()));
        let mut item_leaf = vec![0; paths.len()];
        let mut level: Vec<std::ops::Range<usize>> = std::iter::once(0..order.len()).collect();
        let mut depth = 0;
        let mut num_nodes: u64 = 0;
        while !level.is_empty() {
            let mut next = vec![];
            for items in level {
                let node = u32::try_from(num_nodes).map_err(|_| BuildError::TooLarge)?;
                num_nodes += 1;
                first_edge.push(edge_token.len() as u32);
                let run = &order[items.clone()];
                if path(run[0]).len() == depth {
                    if let Some(&other) = run.iter().find(|&&item| path(item).len() > depth) {
                        return Err(BuildError::EndsInside { item: run[0], other });
                    }
                    leaf_node.push(node);
                    leaf_item.extend_from_slice(run);
                    leaf_first_item.push(leaf_item.len() as u32);
                    run.iter().for_each(|&item| item_leaf[item as usize] = node);
                    continue;
                }
                let mut start = items.start;
                while start < items.end {
                    let token = path(order[start])[depth];
                    let run_len = order[start..items.end].partition_point(|&item| path(item)[depth] == token);
                    edge_token.push(token);
                    next.push(start..start + run_len);
                    start += run_len;
                }
            }
            level = next;
            depth += 1;
        }
        first_edge.push(edge_token.len() as u32);
        let mut tree = Self {
            first_edge: first_edge.into(),
            edge_token: edge_token.into(),
            leaf_node: leaf_node.into(),
            leaf_first_item: leaf_first_item.into(),
            leaf_item: leaf_item.into(),
            item_leaf: item_leaf.into(),
            digest: Digest::of(b""),
        };
        tree.digest = tree.content_digest();
        Ok(tree)
    }

    /// Number of nodes, root and leaves included.
    pub fn num_nodes(&self) -> usize {
        self.first_edge.len() - 1
    }

    /// Number of items of the catalog.
    pub fn num_items(&self) -> usize {
        self.item_leaf.len()
    }

    /// Number of distinct spellings.
    pub fn num_leaves(&self) -> usize {
        self.leaf_node.len()
    }

    /// Identity of the catalog's spelling: equal digests mean equal trees.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The edges that leave `node`, in token order; none at a leaf.
    ///
    /// # Panics
    /// If `node` is not of this tree; wire data is checked by [`contains`](Self::contains) first.
    pub fn children(&self, node: NodeId) -> Children<'_> {
        let n = node.0 as usize;
        let (start, end) = (self.first_edge[n] as usize, self.first_edge[n + 1] as usize);
        Children { tokens: &self.edge_token[start..end], first: NodeId(start as u32 + 1) }
    }

    /// Number of legal continuations of `node`; 1 means the next token is forced (method 1.3).
    pub fn num_children(&self, node: NodeId) -> usize {
        self.children(node).tokens.len()
    }

    /// Whether `node` is a node of this tree.
    pub fn contains(&self, node: NodeId) -> bool {
        (node.0 as usize) < self.num_nodes()
    }

    /// The node that `token` leads to, if the catalog allows it there.
    pub fn step(&self, node: NodeId, token: u32) -> Option<NodeId> {
        let children = self.children(node);
        children.tokens.binary_search(&token).ok().map(|k| children.node(k))
    }

    /// The node reached from the root by `tokens`.
    ///
    /// # Errors
    /// [`WalkError`] names the first token that the catalog does not allow.
    pub fn walk(&self, tokens: &[u32]) -> Result<NodeId, WalkError> {
        tokens.iter().enumerate().try_fold(Self::ROOT, |node, (position, &token)| {
            self.step(node, token).ok_or(WalkError { token, position })
        })
    }

    /// Whether an item ends here.
    pub fn is_leaf(&self, node: NodeId) -> bool {
        self.num_children(node) == 0
    }

    /// All items spelled by the path to `node`, ascending; empty unless `node` is a leaf.
    pub fn items_at(&self, node: NodeId) -> &[ItemIndex] {
        match self.leaf_node.binary_search(&node.0) {
            Ok(l) => ItemIndex::wrap_slice(
                &self.leaf_item[self.leaf_first_item[l] as usize..self.leaf_first_item[l + 1] as usize],
            ),
            Err(_) => &[],
        }
    }

    /// The leaf at which `item` ends.
    pub fn leaf_of(&self, item: ItemIndex) -> NodeId {
        NodeId(self.item_leaf[item.0 as usize])
    }

    /// The node before `node`; `None` for the root.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        let edge = node.0.checked_sub(1)?;
        // The last node whose edges start at or before `edge` and that has any: leaves share their successor's start.
        let after = self.first_edge.partition_point(|&first| first <= edge);
        Some(NodeId(after as u32 - 1))
    }

    /// The token on the edge that enters `node`; `None` for the root.
    pub fn token_into(&self, node: NodeId) -> Option<u32> {
        Some(self.edge_token[node.0.checked_sub(1)? as usize])
    }

    /// The nodes from the root to `node`, both included.
    pub fn nodes_to(&self, node: NodeId) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = std::iter::successors(Some(node), |&node| self.parent(node)).collect();
        nodes.reverse();
        nodes
    }

    /// Tokens from the root to `node`.
    pub fn path(&self, node: NodeId) -> Vec<u32> {
        self.nodes_to(node).into_iter().filter_map(|node| self.token_into(node)).collect()
    }
}

impl std::fmt::Debug for PrefixTree {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PrefixTree")
            .field("nodes", &self.num_nodes())
            .field("items", &self.num_items())
            .field("digest", &self.digest)
            .finish()
    }
}

#[cfg(test)]
mod tests;
