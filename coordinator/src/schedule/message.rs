//! What goes into the schedule and what comes out.

use riser_core::{
    digest::Digest,
    ids::{GroupId, Incarnation, PolicyVersion, WorkerId},
    learner_report::LearnerReport,
    lease::{Claim, LeaseEpoch, LeaseId},
};
use std::{collections::BTreeSet, time::Duration};

/// A worker's question for work, as numbered by whoever feeds the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    Renew(Claim),
    /// A holder says that the learner has every group.
    Complete(Claim),
    /// A holder gives the lease back.
    Release(Claim),
    /// The learner says where it stands.
    Report(LearnerReport),
    /// These catalogs can be handed out, as the run's own always can, with prompts that have their items as targets.
    Catalogs(BTreeSet<Digest>),
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
    /// The holder.
    pub worker: WorkerId,
    /// Version to sample with.
    pub version: PolicyVersion,
    /// Catalog to sample from.
    pub catalog: Digest,
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
    /// Nothing can be said about any lease yet.
    #[error("the learner has not reported yet")]
    Unready,
    /// Versions only grow, unless the learner was started again.
    #[error("learner reports version {got} after version {current}")]
    Backwards {
        /// The reported version.
        got: PolicyVersion,
        /// The version we know.
        current: PolicyVersion,
    },
    /// A learner that has been replaced.
    #[error("learner {got} reports after learner {current} did")]
    Superseded {
        /// Which start of the learner speaks.
        got: Incarnation,
        /// The one we know.
        current: Incarnation,
    },
    /// Two learners have the same number, because it was counted in different places.
    #[error("learner {number} reports, and another one with this number does already")]
    Twin {
        /// The number.
        number: Incarnation,
    },
    /// More versions than the run has batches.
    #[error("learner reports version {got}, the run ends with version {last}")]
    BeyondEnd {
        /// The reported version.
        got: PolicyVersion,
        /// The last version of the run.
        last: u64,
    },
    /// A change of catalog that would mix catalogs, or that was taken back.
    #[error(
        "learner {learner} changes the catalog of batches that are leased already, batches below {opened} are open"
    )]
    Catalogs {
        /// Which start of the learner speaks.
        learner: Incarnation,
        /// First batch that is not open.
        opened: u64,
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

    /// What the holder will say about it.
    pub fn claim(&self) -> Claim {
        Claim { lease: self.lease, epoch: self.epoch, worker: self.worker, version: self.version }
    }
}
