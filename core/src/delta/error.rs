//! Why there is no delta, or why one is not believed.

use crate::{
    digest::Digest,
    snapshot::{PolicyIdentity, SnapshotError},
};

/// Why a delta cannot be made, read or applied; names the place and its value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeltaError {
    /// The two policies are not made of the same tensors; only the whole policy can be sent.
    #[error("{what} in {base} and in {next} differ in name, type or shape")]
    Structure {
        /// What was compared.
        what: String,
        /// The earlier policy.
        base: PolicyIdentity,
        /// The later policy.
        next: PolicyIdentity,
    },
    /// The bytes are not those that were encoded.
    #[error("delta is damaged: its bytes have digest {}, its seal says {}", got.short(), sealed.short())]
    Seal {
        /// Digest of the bytes.
        got: Digest,
        /// Digest at their end.
        sealed: Digest,
    },
    /// Bytes that are no delta.
    #[error("delta byte {at}: expected {expected}")]
    Malformed {
        /// Where.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// Made for another policy than the one in hand.
    #[error("delta starts from {expected}, in hand is {got}")]
    Base {
        /// The policy in hand.
        got: PolicyIdentity,
        /// The policy the delta starts from.
        expected: PolicyIdentity,
    },
    /// Another number of tensors.
    #[error("delta is over {got} tensors, the policy has {expected}")]
    NumTensors {
        /// Tensors the delta is over.
        got: u32,
        /// Tensors of the policy in hand.
        expected: usize,
    },
    /// A payload that does not unpack.
    #[error("tensor `{tensor}`: payload does not unpack to {raw_bytes} bytes: {reason}")]
    Unpack {
        /// The tensor.
        tensor: String,
        /// The size announced.
        raw_bytes: u64,
        /// What the library said.
        reason: String,
    },
    /// A payload of the wrong size.
    #[error("tensor `{tensor}`: payload has {got} bytes, expected {expected}")]
    PayloadSize {
        /// The tensor.
        tensor: String,
        /// Its size.
        got: u64,
        /// The size its contents ask for.
        expected: u64,
    },
    /// More changes than a block has elements.
    #[error("tensor `{tensor}`: block {block} of {elements} elements has {got} changes")]
    BlockCount {
        /// The tensor.
        tensor: String,
        /// The block.
        block: usize,
        /// Elements in it.
        elements: usize,
        /// Changes claimed.
        got: u32,
    },
    /// A change outside its block, or out of order.
    #[error("tensor `{tensor}`: block {block} of {elements} elements changes element {index} out of order or range")]
    BlockIndex {
        /// The tensor.
        tensor: String,
        /// The block.
        block: usize,
        /// Elements in it.
        elements: usize,
        /// The element's place in the block.
        index: u16,
    },
    /// A tensor that is not the announced one.
    #[error("tensor `{tensor}` results with digest {}, {} was announced", got.short(), announced.short())]
    TensorMismatch {
        /// The tensor.
        tensor: String,
        /// Digest of what results.
        got: Digest,
        /// Digest that was announced.
        announced: Digest,
    },
    /// A policy that is not the announced one.
    #[error("delta leads to {got}, announced was {announced}")]
    PolicyMismatch {
        /// What results.
        got: PolicyIdentity,
        /// What was announced.
        announced: PolicyIdentity,
    },
    /// Tensors that are not a policy, for example not finite.
    #[error(transparent)]
    Policy(#[from] SnapshotError),
}
