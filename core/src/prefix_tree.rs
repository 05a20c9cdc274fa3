//! The catalog as a prefix tree of token ids: the one structure that rollouts, training and evaluation walk.
//!
//! Most nodes have one child (method 1.3), so the tree is kept as *chains*: a **head**, which is entered by a choice, and the
//! **links** behind it, which are forced. A chain ends in a **choice** between the heads of other chains, or in a **leaf**. Chains
//! are numbered breadth first with siblings in token order; the root is the head of chain 0. Heads are the nodes
//! `0 .. chains`, links the nodes after them, chain by chain:
//!
//! ```text
//!         3 - 4 - 0      items 3 4 0, 5 1 0, 5 2 7 0
//! root <                 chains 0: root, 1: 3 4 0, 2: 5, 3: 1 0, 4: 2 7 0
//!         5 <  1 - 0     heads  0 .. 5, links 5 .. 10 (4 0 | 0 | 7 0)
//!              2 - 7 - 0
//!
//! head_token   [chains - 1]    token into each head but the root; siblings side by side, ascending
//! link_token   [links]         token into each link; a chain's links side by side
//! first_link   [chains + 1]    links of chain c are first_link[c] .. first_link[c + 1]
//! link_marks   [links / 64]    the last link of each chain is marked; number: chain of the block's first link
//! choice_marks [chains / 64]   chains that end in a choice are marked; number: marks before the block
//! first_head   [choices + 1]   the k-th choice is between the heads first_head[k] .. first_head[k + 1]
//! shared_leaf  [shared]        leaves of several items, as their place among the leaves (chains that end in no choice)
//! shared_more  [shared]        items beyond one to a leaf, up to and with this one
//! leaf_item    [items]         items grouped by leaf, ascending within a leaf
//! item_leaf    [items]         leaf node of each item
//! ```
//!
//! No child pointers are stored, a walk along a chain reads neighbouring words, and everything is a `u32` in one piece of
//! memory that is the file, byte for byte. An item ends with the end token on an edge of its own, so an item that is a prefix of
//! another stays distinguishable, and items that are spelled alike share one leaf, which lists them all. The numbering
//! depends on nothing but the items, so equal catalogs have equal bytes, whether they were built or updated.

mod below;
mod build;
mod check;
mod draft;
mod file;
mod layout;
mod marks;
mod sort;
mod update;
mod words;

pub use file::OpenError;
pub use update::UpdateError;

use crate::{
    digest::Digest,
    ids::{ItemIndex, NodeId},
};
use bytemuck::TransparentWrapper;
use draft::LeafItems;
use layout::{Layout, Section};
use marks::Marks;
use words::Words;

/// Longest item the tree accepts, in tokens; a longer one is a broken catalog, not an item.
pub const MAX_ITEM_TOKENS: usize = 4096;

/// The prefix tree of a catalog. See the module documentation for the layout; a clone shares it.
#[derive(Clone)]
pub struct PrefixTree {
    words: Words,
    layout: Layout,
    digest: Digest,
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

/// What stands behind a node.
enum Behind {
    /// The link of this index: the next token is forced.
    Link(usize),
    /// The end of this chain: a choice or a leaf.
    End(usize),
}

impl PrefixTree {
    /// The node before the first token.
    pub const ROOT: NodeId = NodeId(0);

    /// Number of nodes, root and leaves included.
    pub fn num_nodes(&self) -> usize {
        self.num_chains() + self.layout.sizes.links as usize
    }

    /// Number of items of the catalog.
    pub fn num_items(&self) -> usize {
        self.layout.sizes.items as usize
    }

    /// Number of distinct spellings.
    pub fn num_leaves(&self) -> usize {
        self.layout.sizes.leaves() as usize
    }

    /// Identity of the catalog's spelling: equal digests mean equal trees.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The edges that leave `node`, in token order; none at a leaf.
    ///
    /// # Panics
    /// If `node` is not of this tree; wire data is checked by [`contains`](Self::contains) first.
    #[inline]
    pub fn children(&self, node: NodeId) -> Children<'_> {
        match self.behind(node) {
            Behind::Link(link) => Children {
                tokens: &self.array(Section::LinkToken)[link..=link],
                first: NodeId((self.num_chains() + link) as u32),
            },
            Behind::End(chain) => match self.choices().rank(chain) {
                (true, choice) => {
                    let first_head = self.array(Section::FirstHead);
                    let (start, end) = (first_head[choice as usize], first_head[choice as usize + 1]);
                    let tokens = &self.array(Section::HeadToken)[start as usize - 1..end as usize - 1];
                    Children { tokens, first: NodeId(start) }
                }
                (false, _) => Children { tokens: &[], first: node },
            },
        }
    }

    /// Number of legal continuations of `node`; 1 means the next token is forced (method 1.3).
    pub fn num_children(&self, node: NodeId) -> usize {
        self.children(node).tokens.len()
    }

    /// Where the forced run from `node` ends: the first node at or behind it that is a choice or a leaf.
    ///
    /// # Panics
    /// As [`children`](Self::children).
    #[inline]
    pub fn end_of_run(&self, node: NodeId) -> NodeId {
        let n = node.0 as usize;
        let chain = n.checked_sub(self.num_chains()).map_or(n, |link| self.chain_of(link));
        NodeId(draft::end_of(self.array(Section::FirstLink), chain))
    }

    /// Whether `node` is a node of this tree.
    pub fn contains(&self, node: NodeId) -> bool {
        (node.0 as usize) < self.num_nodes()
    }

    /// The node that `token` leads to, if the catalog allows it there.
    #[inline]
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
        let Behind::End(chain) = self.behind(node) else { return &[] };
        let (false, choices) = self.choices().rank(chain) else { return &[] };
        let (shared_leaf, shared_more) = (self.array(Section::SharedLeaf), self.array(Section::SharedMore));
        let items = LeafItems::starting_at(chain as u32 - choices, shared_leaf, shared_more).next();
        ItemIndex::wrap_slice(&self.array(Section::LeafItem)[items])
    }

    /// The leaf at which `item` ends.
    pub fn leaf_of(&self, item: ItemIndex) -> NodeId {
        NodeId(self.array(Section::ItemLeaf)[item.0 as usize])
    }

    /// The node before `node`; `None` for the root.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        let n = node.0 as usize;
        if let Some(link) = n.checked_sub(self.num_chains()) {
            let is_first = link == 0 || self.links().is_marked(link - 1);
            return Some(NodeId(if is_first { self.chain_of(link) as u32 } else { node.0 - 1 }));
        }
        if n == 0 {
            return None;
        }
        let choice = self.array(Section::FirstHead).partition_point(|&first| first <= node.0) - 1;
        let chain = self.choices().select(choice as u32);
        Some(NodeId(draft::end_of(self.array(Section::FirstLink), chain)))
    }

    /// The token on the edge that enters `node`; `None` for the root.
    pub fn token_into(&self, node: NodeId) -> Option<u32> {
        let n = node.0 as usize;
        match n.checked_sub(self.num_chains()) {
            Some(link) => Some(self.array(Section::LinkToken)[link]),
            None => Some(self.array(Section::HeadToken)[n.checked_sub(1)?]),
        }
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

    #[inline]
    fn array(&self, section: Section) -> &[u32] {
        &self.words[self.layout.range(section)]
    }

    #[inline]
    fn num_chains(&self) -> usize {
        self.layout.sizes.chains as usize
    }

    #[inline]
    fn choices(&self) -> Marks<'_> {
        Marks(self.array(Section::ChoiceMarks))
    }

    #[inline]
    fn links(&self) -> Marks<'_> {
        Marks(self.array(Section::LinkMarks))
    }

    #[inline]
    fn behind(&self, node: NodeId) -> Behind {
        let n = node.0 as usize;
        match n.checked_sub(self.num_chains()) {
            None => {
                let first_link = self.array(Section::FirstLink);
                let (start, end) = (first_link[n], first_link[n + 1]);
                if start < end { Behind::Link(start as usize) } else { Behind::End(n) }
            }
            Some(link) if self.links().is_marked(link) => Behind::End(self.chain_of(link)),
            Some(link) => Behind::Link(link + 1),
        }
    }

    /// The chain that a link is of.
    #[inline]
    fn chain_of(&self, link: usize) -> usize {
        // The block says which chain its first link is of, and the next block where to stop; few chains lie between them.
        let (marks, block) = (self.links(), link / 64);
        let low = marks.number(block) as usize;
        let high =
            if block + 1 < marks.num_blocks() { marks.number(block + 1) as usize } else { self.num_chains() - 1 };
        let first_link = &self.array(Section::FirstLink)[low..=high];
        low + first_link.partition_point(|&first| first as usize <= link) - 1
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
