//! What goes into the schedule and what comes out.

use riser_core::{
    ids::{GroupId, PolicyVersion, WorkerId},
    lease::{LeaseEpoch, LeaseId},
};
use std::time::Duration;

/// A worker's question for work, as numbered by whoever feeds the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A worker wants work and is willing to wait for it until `until`.
    Ask {
        /// The question.
        ask: AskId,
        /// Who asks.
        worker: WorkerId,
        /// When it must be answered.
        until: Duration,
    },
    /// A holder says that it is still at it.
    Renew {
        /// The lease.
        lease: LeaseId,
        /// Which holder.
        epoch: LeaseEpoch,
    },
    /// A holder says that the learner has every group.
    Complete {
        /// The lease.
        lease: LeaseId,
        /// Which holder.
        epoch: LeaseEpoch,
    },
    /// A holder gives the lease back.
    Release {
        /// The lease.
        lease: LeaseId,
        /// Which holder.
        epoch: LeaseEpoch,
    },
    /// The learner has published a version.
    Advance {
        /// The version.
        version: PolicyVersion,
    },
    /// A learner has been started and is at `version`, which may be less than what its predecessor had reached: what the
    /// predecessor held in memory is lost, so every open batch is sampled anew and nobody's lease is valid any more.
    Register {
        /// The version.
        version: PolicyVersion,
    },
    /// Time has passed.
    Tick,
}

/// An answer to a waiting worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Work.
    Grant {
        /// The question that this answers.
        ask: AskId,
        /// What was granted.
        grant: Grant,
    },
    /// Nothing came up in time.
    Wait {
        /// The question that this answers.
        ask: AskId,
    },
    /// The run is over.
    Done {
        /// The question that this answers.
        ask: AskId,
    },
}

/// A lease without its prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseId,
    /// Which holder.
    pub epoch: LeaseEpoch,
    /// Version to sample with.
    pub version: PolicyVersion,
    /// Groups to sample, first and one past the last.
    pub groups: std::ops::Range<u64>,
}

/// Why an event was refused. The state is unchanged then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The lease is not, or no longer, this holder's.
    #[error("lease {lease} is not held with epoch {epoch}")]
    NotHeld {
        /// The lease.
        lease: LeaseId,
        /// The epoch of whoever said so.
        epoch: LeaseEpoch,
    },
    /// Versions only grow.
    #[error("learner reports version {got} after version {current}")]
    Backwards {
        /// The reported version.
        got: PolicyVersion,
        /// The version we know.
        current: PolicyVersion,
    },
    /// More versions than the run has batches.
    #[error("learner reports version {got}, the run ends with version {last}")]
    BeyondEnd {
        /// The reported version.
        got: PolicyVersion,
        /// The last version of the run.
        last: u64,
    },
    /// Too many workers ask at once.
    #[error("{limit} questions for work are waiting already")]
    Crowded {
        /// The limit.
        limit: usize,
    },
}

impl Grant {
    /// The groups to sample, ascending.
    pub fn group_ids(&self) -> impl Iterator<Item = GroupId> + use<> {
        self.groups.clone().map(GroupId)
    }
}
