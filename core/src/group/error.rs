//! Why a rollout group is not believed.

use crate::{
    digest::Digest,
    ids::{ItemIndex, NodeId},
};

/// Why a rollout group is refused; the message names the entry or completion and its value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GroupError {
    /// Sampled from another catalog.
    #[error("sampled from catalog {}, expected {}", got.short(), expected.short())]
    Catalog {
        /// The group's catalog.
        got: Digest,
        /// Ours.
        expected: Digest,
    },
    /// Too few or too many of something.
    #[error("{got} {what}, expected {min} to {max}")]
    Size {
        /// What was counted.
        what: &'static str,
        /// The count.
        got: usize,
        /// Fewest allowed.
        min: usize,
        /// Most allowed.
        max: usize,
    },
    /// The target is no item of the catalog.
    #[error("target item {target} is outside the catalog of {num_items} items")]
    Target {
        /// The target.
        target: ItemIndex,
        /// Size of the catalog.
        num_items: usize,
    },
    /// Arrays of the sub-tree that should be parallel are not.
    #[error("sub-tree array `{array}` has {got} elements, `parent` has {expected}")]
    Length {
        /// The array.
        array: &'static str,
        /// Its length.
        got: usize,
        /// Number of entries.
        expected: usize,
    },
    /// An entry before its parent.
    #[error("entry {entry} follows entry {parent}, which does not come before it")]
    Parent {
        /// The entry.
        entry: usize,
        /// Its parent.
        parent: u32,
    },
    /// A token the catalog does not allow there.
    #[error("entry {entry}: token {token} leaves the catalog at node {before}")]
    Illegal {
        /// The entry.
        entry: usize,
        /// Its token.
        token: u32,
        /// Where the walk stood.
        before: NodeId,
    },
    /// The token leads elsewhere.
    #[error("entry {entry} claims node {got}, its token leads to node {expected}")]
    Node {
        /// The entry.
        entry: usize,
        /// The claimed node.
        got: NodeId,
        /// The real one.
        expected: NodeId,
    },
    /// Wrong number of legal choices.
    #[error("entry {entry} claims {got} legal choices, the catalog has {expected}")]
    Children {
        /// The entry.
        entry: usize,
        /// The claimed count.
        got: u32,
        /// The real one.
        expected: usize,
    },
    /// Not a log-probability.
    #[error("entry {entry} has log-probability {logprob}")]
    Logprob {
        /// The entry.
        entry: usize,
        /// Its value.
        logprob: f32,
    },
    /// A shared beginning stored twice.
    #[error("catalog node {node} appears twice in the sub-tree")]
    Repeated {
        /// The node.
        node: NodeId,
    },
    /// A completion that ends outside the sub-tree.
    #[error("completion {index} ends at entry {leaf}, which does not exist")]
    NoSuchLeaf {
        /// The completion.
        index: usize,
        /// Its last entry.
        leaf: u32,
    },
    /// A completion that ends before an item does.
    #[error("completion {index} ends at node {node}, which is not a leaf")]
    Unfinished {
        /// The completion.
        index: usize,
        /// Where it ends.
        node: NodeId,
    },
    /// A completion with an item that its tokens do not spell.
    #[error("completion {index} claims item {item}, which leaf {node} does not spell")]
    WrongItem {
        /// The completion.
        index: usize,
        /// The claimed item.
        item: ItemIndex,
        /// Where it ends.
        node: NodeId,
    },
    /// A reward that is no number.
    #[error("completion {index} has reward {reward}")]
    Reward {
        /// The completion.
        index: usize,
        /// Its reward.
        reward: f32,
    },
    /// Counts that no draw can give.
    #[error(
        "{kept} completions with {distinct} spellings cannot be kept from {sampled} samples with {unique} spellings"
    )]
    Counts {
        /// Completions in the group.
        kept: usize,
        /// Distinct leaves among them.
        distinct: usize,
        /// Distinct leaves claimed for all samples.
        unique: u32,
        /// Samples claimed.
        sampled: u32,
    },
    /// A diagnostic that is no number.
    #[error("statistic `{name}` is {value}")]
    Stat {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f32,
    },
}
