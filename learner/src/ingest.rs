//! Checking what arrives: nothing a worker sends is believed.

use crate::{
    batch_book::{Admission, AdmissionError},
    batcher::{BatcherHandle, Stopped},
};
use riser_core::{
    group::{GroupError, GroupLimits, RolloutGroup},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
};
use riser_proto::{WireError, v1};
use std::sync::Arc;

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
    batcher: BatcherHandle,
}

impl Ingest {
    /// A gate for groups over `tree` with log-probabilities in `space`.
    pub fn new(tree: Arc<PrefixTree>, space: LogprobSpace, limits: GroupLimits, batcher: BatcherHandle) -> Self {
        Self { tree, space, limits, batcher }
    }

    /// Takes one group from the wire and says what became of it; and whether no honest worker would have sent it, which is
    /// not so for a group that the schedule has overtaken.
    ///
    /// # Errors
    /// [`Stopped`] if the role is ending; a wrong group is an acknowledgement that says so, not an error.
    pub async fn take(&self, message: v1::RolloutGroup) -> Result<(v1::GroupAck, bool), Stopped> {
        let group = message.id;
        let checked = self.check(message);
        let is_offence = checked.is_err();
        let (admission, reason) = match checked {
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
        Ok((v1::GroupAck { group, admission: admission.into(), reason }, is_offence))
    }

    fn check(&self, message: v1::RolloutGroup) -> Result<RolloutGroup, Rejection> {
        let group = RolloutGroup::try_from(message)?;
        if group.space != self.space {
            return Err(Rejection::Space { got: group.space, expected: self.space });
        }
        group.validate(&self.tree, &self.limits)?;
        Ok(group)
    }
}
