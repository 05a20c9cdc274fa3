//! What changed from one published policy to the next.
//!
//! A delta names the policy it starts from and the one it leads to, each by version and digest. Per tensor it holds the
//! smallest of:
//!
//! | coding | when | bytes |
//! |---|---|---|
//! | nothing | equal digests | 0 |
//! | sparse overwrite | few elements changed | 4 per block of 65,536 elements, 2 + element size per change |
//! | full | many changed | the tensor |
//!
//! An overwrite holds new values, not differences, so the order of changes does not matter and applying one twice is
//! harmless. Either coding is packed with zstd where that pays. [`encode`] makes a delta, [`PolicyDelta::decode`] believes
//! nothing that comes from elsewhere, [`apply`] gives the whole next policy, proven by its digest, or an error.
//!
//! Start reading at [`encode`] and [`apply`]; `layout` has the bytes, [`offer`] chooses between a chain of deltas and the
//! whole policy.

mod apply;
mod encode;
mod error;
mod layout;
pub mod offer;
mod packing;
mod sparse;

pub use apply::apply;
pub use encode::{changed_elements, encode};
pub use error::DeltaError;
pub use packing::Packing;

use crate::{digest::Digest, snapshot::PolicyIdentity};
use bytes::Bytes;

/// The way from one policy to another, encoded and checked for damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDelta {
    base: PolicyIdentity,
    next: PolicyIdentity,
    /// Tensors of either policy.
    num_tensors: u32,
    /// The changed ones, ascending by place.
    changed: Vec<TensorDelta>,
    /// Everything above as bytes, shared with the payloads.
    encoded: Bytes,
}

/// One changed tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TensorDelta {
    /// Place among the policy's tensors, which are in name order.
    place: u32,
    coding: Coding,
    is_packed: bool,
    /// Size of the payload before packing.
    raw_bytes: u64,
    /// Digest of the tensor that results.
    digest: Digest,
    payload: Bytes,
}

/// How a changed tensor is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Sparse,
    Full,
}

/// Tensors of a delta by coding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeltaSummary {
    /// Tensors that stay as they are.
    pub unchanged: usize,
    /// Tensors of which single elements are overwritten.
    pub sparse: usize,
    /// Tensors that are replaced.
    pub full: usize,
    /// Those of the last two that are packed.
    pub packed: usize,
}

impl PolicyDelta {
    /// The policy it can be applied to.
    pub fn base(&self) -> PolicyIdentity {
        self.base
    }

    /// The policy it leads to.
    pub fn next(&self) -> PolicyIdentity {
        self.next
    }

    /// The delta as bytes, for [`decode`](Self::decode).
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Size of the delta in bytes.
    pub fn encoded_bytes(&self) -> u64 {
        self.encoded.len() as u64
    }

    /// How its tensors are written down.
    pub fn summary(&self) -> DeltaSummary {
        let count = |wanted: &dyn Fn(&TensorDelta) -> bool| self.changed.iter().filter(|it| wanted(it)).count();
        DeltaSummary {
            unchanged: self.num_tensors as usize - self.changed.len(),
            sparse: count(&|tensor| tensor.coding == Coding::Sparse),
            full: count(&|tensor| tensor.coding == Coding::Full),
            packed: count(&|tensor| tensor.is_packed),
        }
    }
}

#[cfg(test)]
mod tests;
