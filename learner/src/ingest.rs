//! Checking what arrives: nothing a worker sends is believed.

use crate::{
    batch_book::{Admission, AdmissionError},
    batcher::{BatcherHandle, Stopped},
    publisher::{self, Shelf},
};
use riser_core::{
    digest::Digest,
    group::{GroupError, GroupLimits, RolloutGroup},
    ids::PolicyVersion,
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
};
use riser_proto::{WireError, v1};
use std::sync::Arc;
use tokio::sync::watch;

/// Why a group was refused.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The message is malformed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The samples are not walks of our catalog.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The log-probabilities are of another policy.
    #[error("log-probabilities are in {got} space, the run is in {expected} space")]
    Space {
        /// The group's space.
        got: LogprobSpace,
        /// The run's space.
        expected: LogprobSpace,
    },
    /// Sampled with weights that we never published.
    #[error("sampled with policy version {version} of digest {}, published was {}", got.short(), expected.short())]
    Policy {
        /// The version.
        version: PolicyVersion,
        /// Digest of the weights that made the group.
        got: Digest,
        /// Digest of the weights we published.
        expected: Digest,
    },
    /// Sampled with a version that does not exist yet.
    #[error("sampled with policy version {version}, the newest is {newest}")]
    Unpublished {
        /// The version.
        version: PolicyVersion,
        /// The newest version.
        newest: PolicyVersion,
    },
    /// The schedule did not ask for it.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
}

/// The gate between the wire and the batcher; cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    tree: Arc<PrefixTree>,
    space: LogprobSpace,
    limits: GroupLimits,
    shelf: watch::Receiver<Shelf>,
    batcher: BatcherHandle,
}

impl Ingest {
    /// A gate for groups over `tree` with log-probabilities in `space`, sampled with the policies of `shelf`.
    pub fn new(
        tree: Arc<PrefixTree>,
        space: LogprobSpace,
        limits: GroupLimits,
        shelf: watch::Receiver<Shelf>,
        batcher: BatcherHandle,
    ) -> Self {
        Self { tree, space, limits, shelf, batcher }
    }

    /// Takes one group from the wire and says what became of it. A learner that has just started answers once it has
    /// published its first version.
    ///
    /// # Errors
    /// [`Stopped`] if the role is ending; a wrong group is an acknowledgement that says so, not an error.
    pub async fn take(&self, message: v1::RolloutGroup) -> Result<v1::GroupAck, Stopped> {
        let group = message.id;
        let shelf = self.shelf.clone().wait_for(|shelf| !shelf.is_empty()).await.map_err(|_| Stopped)?.clone();
        let (admission, reason) = match self.check(message, &shelf) {
            Ok(group) => match self.batcher.admit(group).await? {
                Ok(Admission::Accepted) => (v1::Admission::Accepted, String::new()),
                Ok(Admission::Duplicate) => (v1::Admission::Duplicate, String::new()),
                Err(error) => (v1::Admission::Rejected, error.to_string()),
            },
            Err(rejection) => (v1::Admission::Rejected, rejection.to_string()),
        };
        match admission {
            v1::Admission::Rejected => tracing::warn!(group, reason, "group rejected"),
            _ => tracing::debug!(group, ?admission, "group arrived"),
        }
        Ok(v1::GroupAck { group, admission: admission.into(), reason })
    }

    fn check(&self, message: v1::RolloutGroup, shelf: &Shelf) -> Result<RolloutGroup, Rejection> {
        let group = RolloutGroup::try_from(message)?;
        if group.space != self.space {
            return Err(Rejection::Space { got: group.space, expected: self.space });
        }
        group.validate(&self.tree, &self.limits)?;
        check_policy(&group, shelf)?;
        Ok(group)
    }
}

/// A version that has left the shelf needs no check: its batches have been trained, so the group is a late copy, or no batch
/// asks for it.
fn check_policy(group: &RolloutGroup, shelf: &Shelf) -> Result<(), Rejection> {
    let (version, got) = (group.version, group.policy);
    match (publisher::find(shelf, version), shelf.last().map(|policy| policy.version())) {
        (Some(policy), _) if policy.digest() != got => {
            Err(Rejection::Policy { version, got, expected: policy.digest() })
        }
        (None, Some(newest)) if version > newest => Err(Rejection::Unpublished { version, newest }),
        _ => Ok(()),
    }
}
