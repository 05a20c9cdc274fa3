//! Why a worker ended before the run did.

use crate::sampler::SamplerError;
use riser_core::{
    digest::Digest,
    ids::{GroupId, PolicyVersion},
    snapshot::PolicyIdentity,
};
use riser_proto::WireError;
use std::any::Any;
use tokio::task::JoinError;

/// Why a worker ended before the run did.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The coordinator stayed away or disagrees.
    #[error("coordinator: {0}")]
    Coordinator(#[source] tonic::Status),
    /// The learner stayed away or disagrees.
    #[error("learner: {0}")]
    Learner(#[source] tonic::Status),
    /// The worker that policies are taken from stayed away or disagrees; the learner is asked instead.
    #[error("parent: {0}")]
    Parent(#[source] tonic::Status),
    /// A message that cannot be true.
    #[error("message from the {peer}: {source}")]
    Wire {
        /// Who sent it.
        peer: &'static str,
        /// What is wrong with it.
        source: WireError,
    },
    /// The chunks of the catalog make no catalog.
    #[error("catalog: {0}")]
    Catalog(#[from] riser_core::catalog::AssemblyError),
    /// The sampler cannot be made.
    #[error("sampler cannot be made: {0}")]
    Factory(#[source] SamplerError),
    /// The sampler refused a policy.
    #[error("sampler cannot load policy version {version}: {source}")]
    Load {
        /// The version.
        version: PolicyVersion,
        /// What it said.
        source: SamplerError,
    },
    /// The sampler failed.
    #[error("sampler failed at groups from {first} with policy version {version}: {source}")]
    Sample {
        /// First group of the lease.
        first: GroupId,
        /// The version.
        version: PolicyVersion,
        /// What it said.
        source: SamplerError,
    },
    /// The sampler returned other groups than it was asked for.
    #[error("sampler returned groups {got:?}, asked for {expected:?}")]
    WrongGroups {
        /// What came.
        got: Vec<u64>,
        /// What was asked for.
        expected: Vec<u64>,
    },
    /// The sampler returned a group of another policy than the one that was loaded.
    #[error("sampler returned group {group} as sampled with {got}, loaded was {expected}")]
    WrongPolicy {
        /// The group.
        group: GroupId,
        /// The policy it names.
        got: PolicyIdentity,
        /// The policy that was loaded.
        expected: PolicyIdentity,
    },
    /// The sampler returned a group of another catalog than the lease names.
    #[error("sampler returned group {group} of catalog {}, asked for catalog {}", got.short(), expected.short())]
    WrongCatalog {
        /// The group.
        group: GroupId,
        /// The catalog it names.
        got: Digest,
        /// The catalog of the lease.
        expected: Digest,
    },
    /// The worker panicked, most likely in its sampler.
    #[error("panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The learner found a group to be wrong. Sampling it again would give the same bits.
    #[error("learner rejects group {group}: {reason}")]
    Rejected {
        /// The group.
        group: u64,
        /// Why.
        reason: String,
    },
}

impl WorkerError {
    /// What a thread or task died of.
    pub fn panicked(error: JoinError) -> Self {
        let message = match error.try_into_panic() {
            Ok(panic) => panic_message(&*panic),
            Err(_aborted) => "aborted".into(),
        };
        Self::Panicked { message }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
