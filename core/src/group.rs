//! A rollout group: the items sampled for one prompt, as a sub-tree of the catalog with counts.
//!
//! ```text
//! prompt ---- entry 0 ---- entry 1 ---- entry 3 (leaf: completion 0)
//!                    \---- entry 2 ---- entry 4 (leaf: completions 1 and 2, the same item drawn twice)
//! ```
//!
//! Entries are tokens after the prompt. A shared beginning is stored once; a completion is the entry of its last token.
//! A group that came over the wire is only believed after [`RolloutGroup::validate`].

use crate::{
    digest::Digest,
    ids::{GroupId, ItemIndex, NodeId, PolicyVersion, RowId},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
};

mod error;
mod spanning;
pub use error::GroupError;

/// Log-probabilities may exceed 0 by this much: the rounding of a softmax in single precision.
pub const LOGPROB_TOLERANCE: f32 = 1e-4;

/// The tokens of a group's completions as a tree; one element of each array per entry `[E]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubTree {
    /// Entry before this one, always a smaller number; [`SubTree::TRUNK`] if the prompt is.
    pub parent: Vec<u32>,
    /// Token of the entry.
    pub token: Vec<u32>,
    /// Catalog node that the token leads to.
    pub node: Vec<NodeId>,
    /// Behaviour log-probability of the token given what is before it, natural log, in the group's [`LogprobSpace`].
    pub logprob: Vec<f32>,
    /// Legal choices the catalog had for this token; 1 means it was forced.
    pub children: Vec<u32>,
}

impl SubTree {
    /// The parent of an entry that follows the prompt.
    pub const TRUNK: u32 = u32::MAX;

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.parent.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.parent.is_empty()
    }

    /// Entries from the prompt to `entry`, both ends of the walk included.
    ///
    /// # Panics
    /// If the sub-tree has not been validated and `entry` or a parent is out of range.
    pub fn path(&self, entry: u32) -> Vec<u32> {
        let mut path = vec![];
        let mut at = entry;
        while at != Self::TRUNK {
            path.push(at);
            at = self.parent[at as usize];
        }
        path.reverse();
        path
    }
}

/// One sampled item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Completion {
    /// Entry of its last token.
    pub leaf: u32,
    /// The item; one of those that the leaf spells.
    pub item: ItemIndex,
    /// What it earned.
    pub reward: f32,
}

/// Entropies of the sampling policy on this prompt, in nats (method 1.8).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GroupStats {
    /// Mean entropy of the whole-vocabulary softmax per token; `None` where only legal children were computed.
    pub token_entropy: Option<f32>,
    /// Mean entropy of the softmax over children, over branching positions only.
    pub branch_entropy: f32,
    /// Mean over samples of the summed children entropies along the walk: an estimate of the entropy over items.
    pub item_entropy: f32,
    /// Mean whole-vocabulary probability of the legal children per token; `None` as above.
    pub legal_mass: Option<f32>,
}

/// Everything the learner needs to know about the samples of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutGroup {
    /// Place in the run.
    pub id: GroupId,
    /// Row of the dataset the prompt comes from.
    pub row: RowId,
    /// Policy that sampled.
    pub version: PolicyVersion,
    /// Digest of that policy as it was served: of the very weights in the worker's hands.
    pub policy: Digest,
    /// Catalog whose tree was walked.
    pub catalog: Digest,
    /// What the log-probabilities are normalised over.
    pub space: LogprobSpace,
    /// The history as tokens.
    pub prompt: Vec<u32>,
    /// The item the user chose next.
    pub target: ItemIndex,
    /// Tokens of all completions.
    pub subtree: SubTree,
    /// The kept samples in draw order; an item may repeat.
    pub completions: Vec<Completion>,
    /// Samples drawn, before de-duplication.
    pub sampled: u32,
    /// Distinct spellings among the drawn samples.
    pub unique: u32,
    /// Diagnostics.
    pub stats: GroupStats,
}

/// Sizes beyond which a group is refused, whatever else it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// Longest prompt, in tokens.
    pub max_prompt_tokens: usize,
    /// Most entries of the sub-tree.
    pub max_entries: usize,
    /// Most completions.
    pub max_completions: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self { max_prompt_tokens: 32_768, max_entries: 1 << 16, max_completions: 4096 }
    }
}

impl RolloutGroup {
    /// Whether the target is among the completions.
    pub fn has_hit(&self) -> bool {
        self.completions.iter().any(|completion| completion.item == self.target)
    }

    /// Proves that every completion walks `tree` from root to leaf, that children counts are the tree's, that numbers
    /// are finite and that sizes are within `limits`. Never panics, whatever the group holds.
    ///
    /// # Errors
    /// The first [`GroupError`] found; it names the entry or completion.
    pub fn validate(&self, tree: &PrefixTree, limits: &GroupLimits) -> Result<(), GroupError> {
        if self.catalog != tree.digest() {
            return Err(GroupError::Catalog { got: self.catalog, expected: tree.digest() });
        }
        self.validate_sizes(limits)?;
        if self.target.0 as usize >= tree.num_items() {
            return Err(GroupError::Target { target: self.target, num_items: tree.num_items() });
        }
        self.subtree.validate(tree)?;
        self.validate_completions(tree)?;
        let GroupStats { token_entropy, branch_entropy, item_entropy, legal_mass } = self.stats;
        let stats = [
            ("token_entropy", token_entropy),
            ("branch_entropy", Some(branch_entropy)),
            ("item_entropy", Some(item_entropy)),
            ("legal_mass", legal_mass),
        ];
        match stats.into_iter().find_map(|(name, value)| Some((name, value.filter(|value| !value.is_finite())?))) {
            Some((name, value)) => Err(GroupError::Stat { name, value }),
            None => Ok(()),
        }
    }

    fn validate_sizes(&self, limits: &GroupLimits) -> Result<(), GroupError> {
        let sizes = [
            ("prompt tokens", self.prompt.len(), 1, limits.max_prompt_tokens),
            ("entries", self.subtree.len(), 1, limits.max_entries),
            ("completions", self.completions.len(), 2, limits.max_completions),
        ];
        match sizes.into_iter().find(|&(_, got, min, max)| got < min || got > max) {
            Some((what, got, min, max)) => Err(GroupError::Size { what, got, min, max }),
            None => Ok(()),
        }
    }

    fn validate_completions(&self, tree: &PrefixTree) -> Result<(), GroupError> {
        let mut leaves = Vec::with_capacity(self.completions.len());
        for (index, completion) in self.completions.iter().enumerate() {
            let Completion { leaf, item, reward } = *completion;
            let node = *self.subtree.node.get(leaf as usize).ok_or(GroupError::NoSuchLeaf { index, leaf })?;
            if !tree.is_leaf(node) {
                return Err(GroupError::Unfinished { index, node });
            }
            if !tree.items_at(node).contains(&item) {
                return Err(GroupError::WrongItem { index, item, node });
            }
            if !reward.is_finite() {
                return Err(GroupError::Reward { index, reward });
            }
            leaves.push(leaf);
        }
        leaves.sort_unstable();
        leaves.dedup();
        let (kept, distinct) = (self.completions.len(), leaves.len());
        let possible = distinct <= self.unique as usize && kept <= self.sampled as usize && self.unique <= self.sampled;
        if !possible {
            return Err(GroupError::Counts { kept, distinct, unique: self.unique, sampled: self.sampled });
        }
        Ok(())
    }
}

impl SubTree {
    /// Checks entry by entry that the sub-tree lies in `tree`; only nodes reached by legal steps are ever looked up.
    fn validate(&self, tree: &PrefixTree) -> Result<(), GroupError> {
        let num_entries = self.len();
        let lengths = [
            ("token", self.token.len()),
            ("node", self.node.len()),
            ("logprob", self.logprob.len()),
            ("children", self.children.len()),
        ];
        if let Some((array, got)) = lengths.into_iter().find(|&(_, got)| got != num_entries) {
            return Err(GroupError::Length { array, got, expected: num_entries });
        }
        for entry in 0..num_entries {
            let before = match self.parent[entry] {
                Self::TRUNK => PrefixTree::ROOT,
                parent if (parent as usize) < entry => self.node[parent as usize],
                parent => return Err(GroupError::Parent { entry, parent }),
            };
            let token = self.token[entry];
            match tree.step(before, token) {
                None => return Err(GroupError::Illegal { entry, token, before }),
                Some(node) if node != self.node[entry] => {
                    return Err(GroupError::Node { entry, got: self.node[entry], expected: node });
                }
                Some(_) => {}
            }
            let expected = tree.num_children(before);
            if self.children[entry] as usize != expected {
                return Err(GroupError::Children { entry, got: self.children[entry], expected });
            }
            let logprob = self.logprob[entry];
            if !logprob.is_finite() || logprob > LOGPROB_TOLERANCE {
                return Err(GroupError::Logprob { entry, logprob });
            }
        }
        // A node's path is unique in the catalog, so a repeated node is a shared beginning that was not shared.
        let mut nodes = self.node.clone();
        nodes.sort_unstable();
        match nodes.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(GroupError::Repeated { node: pair[0] }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
