//! Which elements changed from one policy to the next, as whoever changed them noticed.

use super::{PolicyIdentity, PolicySnapshot};

/// A bit for every element that differs from an earlier policy in the same number format.
#[derive(Debug, Clone)]
pub struct Changes {
    base: PolicyIdentity,
    of_tensor: Vec<Vec<u64>>,
}

impl Changes {
    /// Changes since `base`: for each tensor in name order a word per 64 elements, the first element in the lowest bit.
    pub fn new(base: PolicyIdentity, of_tensor: Vec<Vec<u64>>) -> Self {
        Self { base, of_tensor }
    }

    /// The policy that the elements differ from.
    pub fn base(&self) -> PolicyIdentity {
        self.base
    }

    /// The words of a tensor.
    pub(crate) fn of_tensor(&self, place: usize) -> &[u64] {
        &self.of_tensor[place]
    }

    /// Whether there is a bit for every element of `policy` and none beyond.
    fn fits(&self, policy: &PolicySnapshot) -> bool {
        let sizes = policy.tensors.iter().map(|tensor| tensor.bytes.len() / tensor.dtype.element_bytes());
        self.of_tensor.len() == policy.tensors.len()
            && self.of_tensor.iter().zip(sizes).all(|(words, size)| {
                let used = size % 64;
                words.len() == size.div_ceil(64) && words.last().is_none_or(|&last| used == 0 || last >> used == 0)
            })
    }
}

impl PolicySnapshot {
    /// The same policy with what is known of its changes, so that a delta from their base needs no comparison. Changes
    /// that do not fit its tensors are dropped.
    pub fn with_changes(mut self, changes: Changes) -> Self {
        self.changes = changes.fits(&self).then(|| changes.into());
        self
    }

    /// What is known of its changes since `base`.
    pub(crate) fn changes_since(&self, base: PolicyIdentity) -> Option<&Changes> {
        self.changes.as_deref().filter(|changes| changes.base == base)
    }
}
