//! The event log of a run as types: what the coordinator and the learner write down so that anyone can check the run.
//!
//! The roles send these through a bounded channel and know nothing of where they end up. A role sends an event before it
//! answers the peer that caused it, so through one channel causes come before their consequences.

use crate::{
    catalog::{change::ChangeExtent, plan::Era},
    digest::Digest,
    ids::{GroupId, Incarnation, PolicyVersion, WorkerId},
    lease::{LeaseEpoch, LeaseId},
};
use std::{collections::BTreeMap, ops::Range, path::PathBuf};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// The coordinator has started.
    CoordinatorStarted {
        /// Which start.
        coordinator: Incarnation,
    },
    /// The coordinator has heard that every batch is trained; one that is started after it has nothing to wait for.
    RunOver {
        /// Which start.
        coordinator: Incarnation,
    },
    /// The learner has started.
    LearnerStarted {
        /// Which start.
        learner: Incarnation,
        /// Version it starts at.
        version: PolicyVersion,
        /// Digest of that policy.
        digest: Digest,
        /// Catalog of the next batch.
        catalog: Digest,
    },
    /// A change of catalog is part of the run.
    CatalogChanged {
        /// Which learner.
        learner: Incarnation,
        /// From when on, with what.
        era: Era,
        /// What it means.
        extent: ChangeExtent,
    },
    /// Something happened to a lease.
    Lease(LeaseRecord),
    /// A group arrived at the learner.
    Arrival(ArrivalRecord),
    /// A batch was trained on.
    Step(StepRecord),
    /// A checkpoint is complete on disk.
    Checkpoint {
        /// Which learner.
        learner: Incarnation,
        /// The version in it.
        version: PolicyVersion,
        /// Its folder.
        folder: PathBuf,
    },
    /// A policy was measured.
    Evaluation {
        /// Which learner.
        learner: Incarnation,
        /// The policy.
        version: PolicyVersion,
        /// What was measured.
        metrics: BTreeMap<String, f64>,
        /// Seconds it took.
        seconds: f64,
    },
    /// The learner ended in good order.
    LearnerEnded {
        /// Which learner.
        learner: Incarnation,
        /// Its last version.
        version: PolicyVersion,
        /// Whether every batch is trained.
        finished: bool,
    },
}

/// Something that happened to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Which start of the coordinator says so.
    pub coordinator: Incarnation,
    /// The lease.
    pub lease: LeaseId,
    /// Which holder.
    pub epoch: LeaseEpoch,
    /// The holder.
    pub worker: WorkerId,
    /// Version it samples with.
    pub version: PolicyVersion,
    /// Its groups, first and one past the last.
    pub groups: Range<u64>,
    /// What happened.
    pub change: LeaseChange,
}

/// What can happen to a lease. A grant or an adoption begins a holding; each of the others ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseChange {
    /// Handed to a worker.
    Granted,
    /// Handed to a second worker because the first is slow.
    Doubled,
    /// A holding of an earlier coordinator was recognised.
    Adopted,
    /// Its holder says that the learner has every group.
    Completed,
    /// Its holder gave it back.
    Released,
    /// Not renewed in time.
    Expired,
    /// The learner has every group, though the holder has not said so.
    Overtaken,
    /// The other holder was faster.
    Outrun,
    /// The learner went back to a checkpoint and no longer wants it.
    Rewound,
}

impl LeaseChange {
    /// Its name in logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Doubled => "doubled",
            Self::Adopted => "adopted",
            Self::Completed => "completed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Overtaken => "overtaken",
            Self::Outrun => "outrun",
            Self::Rewound => "rewound",
        }
    }

    /// Whether it begins a holding; otherwise it ends one.
    pub fn begins(self) -> bool {
        matches!(self, Self::Granted | Self::Doubled | Self::Adopted)
    }
}

/// Under which lease a group was sampled, by the sender's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Who sampled it.
    pub worker: WorkerId,
    /// For which lease.
    pub lease: LeaseId,
    /// As which holder.
    pub epoch: LeaseEpoch,
}

/// A group that arrived at the learner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivalRecord {
    /// Which learner.
    pub learner: Incarnation,
    /// The group.
    pub group: GroupId,
    /// Version it was sampled with.
    pub version: PolicyVersion,
    /// Where it comes from.
    pub origin: Origin,
    /// Its size on the wire.
    pub bytes: u64,
    /// What became of it.
    pub fate: ArrivalFate,
}

/// What became of a group that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrivalFate {
    /// It waits for its batch.
    Admitted,
    /// The learner had it already.
    Duplicate,
    /// Too late, or too early, to be trained on; nobody's fault.
    Untimely(String),
    /// No honest worker can have sent it.
    Rejected(String),
}

impl ArrivalFate {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Duplicate => "duplicate",
            Self::Untimely(_) => "untimely",
            Self::Rejected(_) => "rejected",
        }
    }

    /// Why the group was not taken, where there is something to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Admitted | Self::Duplicate => None,
            Self::Untimely(reason) | Self::Rejected(reason) => Some(reason),
        }
    }
}

/// A batch that was trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Which learner.
    pub learner: Incarnation,
    /// Version after the step; the batch's number is one less.
    pub version: PolicyVersion,
    /// Digest of that policy.
    pub digest: Digest,
    /// The groups, with the version and the catalog each was sampled with.
    pub groups: Vec<(GroupId, PolicyVersion, Digest)>,
    /// Seconds the learner waited for the batch.
    pub wait_seconds: f64,
    /// Seconds the step took.
    pub learn_seconds: f64,
    /// What the trainer measured.
    pub metrics: BTreeMap<String, f64>,
}
