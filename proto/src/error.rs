//! Why a message is not believed.

use riser_core::{
    delta::DeltaError,
    digest::{Digest, DigestError},
    ids::PolicyVersion,
    snapshot::{PolicyIdentity, SnapshotError},
};

/// A message that decodes but cannot be true; names the field and its value.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("`{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// An enum value of another protocol version, or none.
    #[error("`{field}` has the unknown value {value}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i32,
    },
    /// Bytes that are not a digest.
    #[error("`{field}`: {source}")]
    Digest {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A size above what we accept.
    #[error("`{field}` is {got}, at most {limit} is accepted")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its value.
        got: u64,
        /// The most we accept.
        limit: u64,
    },
    /// A value that makes no sense.
    #[error("`{field}` is {value}, expected {rule}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// Groups of a lease that do not ascend.
    #[error("`requests` has group {got} after group {before}")]
    Unordered {
        /// The later group.
        got: u64,
        /// The one before it.
        before: u64,
    },
    /// A piece where another was due.
    #[error("expected {expected}, got {got}")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// More bytes than were announced.
    #[error("{what}: got {got} bytes, {announced} were announced")]
    Overrun {
        /// What is being received.
        what: &'static str,
        /// Bytes received so far.
        got: u64,
        /// Bytes announced.
        announced: u64,
    },
    /// Contents that are not what their digest says.
    #[error("{what} has digest {}, {} was announced", got.short(), announced.short())]
    Mismatch {
        /// What was received.
        what: String,
        /// Digest of what came.
        got: Digest,
        /// Digest that was announced.
        announced: Digest,
    },
    /// A delta from a policy that is not in hand.
    #[error("policy version {version} came as a delta from {base}, which is not in hand")]
    Base {
        /// The policy it starts from.
        base: PolicyIdentity,
        /// The version it leads to.
        version: PolicyVersion,
    },
    /// Bytes that are not a delta, or one that does not lead where it should.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// Tensors that are not a policy.
    #[error(transparent)]
    Policy(#[from] SnapshotError),
    /// A text that is no absolute path.
    #[error("`{field}` is not an absolute path of a folder")]
    Path {
        /// The field.
        field: &'static str,
    },
    /// Eras that no run has.
    #[error(transparent)]
    Plan(#[from] riser_core::catalog::plan::PlanError),
    /// A manifest that no catalog has.
    #[error(transparent)]
    Manifest(#[from] riser_core::catalog::ManifestError),
    /// Bytes that are not the chunk that was asked for.
    #[error(transparent)]
    Chunk(#[from] riser_core::catalog::ChunkError),
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Reads a digest field.
pub(crate) fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, WireError> {
    Digest::from_bytes(bytes).map_err(|source| WireError::Digest { field, source })
}
