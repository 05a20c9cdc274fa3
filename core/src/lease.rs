//! Work on loan: the prompts a worker samples in one go, with which policy, and for how long they are its own.

use crate::{
    digest::Digest,
    ids::{GroupId, Incarnation, ItemIndex, PolicyVersion, RowId, WorkerId},
};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// A history to continue and the item that really followed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The history as tokens.
    pub tokens: Vec<u32>,
    /// The item the user chose next.
    pub target: ItemIndex,
}

/// One group to sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRequest {
    /// The group, which also keys its random draws.
    pub id: GroupId,
    /// Where the prompt comes from.
    pub row: RowId,
    /// What to continue.
    pub prompt: Prompt,
}

/// A fixed run of groups within one batch. What a lease contains depends on its number alone, so the groups that are
/// computed together are the same with any number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

/// The fencing token that tells the present holder of a lease from earlier ones: grows with every grant of the run.
///
/// ```text
/// epoch = incarnation of the coordinator * 2^40 + grants of this incarnation
/// ```
///
/// The high part grows with every start of the coordinator, so a restarted one never repeats an epoch without having
/// written down a single grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseEpoch(pub u64);

impl LeaseEpoch {
    const GRANT_BITS: u32 = 40;

    /// The epoch of the `grant`-th grant of a coordinator, counted from 1.
    pub fn new(coordinator: Incarnation, grant: u64) -> Self {
        Self((u64::from(coordinator.0) << Self::GRANT_BITS) + grant)
    }

    /// Which start of the coordinator granted it.
    pub fn coordinator(self) -> Incarnation {
        // Whatever a peer claims beyond 32 bits is later than any real one.
        Incarnation(u32::try_from(self.0 >> Self::GRANT_BITS).unwrap_or(u32::MAX))
    }
}

/// What a holder says about its lease; enough for a coordinator that was restarted meanwhile to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The lease.
    pub lease: LeaseId,
    /// Which holder.
    pub epoch: LeaseEpoch,
    /// Who holds it.
    pub worker: WorkerId,
    /// Version it samples with.
    pub version: PolicyVersion,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for LeaseEpoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a worker holds while it samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which run of groups.
    pub id: LeaseId,
    /// Which holder.
    pub epoch: LeaseEpoch,
    /// The only version the groups may be sampled with.
    pub version: PolicyVersion,
    /// The catalog that they are sampled from, and that their targets are items of.
    pub catalog: Digest,
    /// How long the lease lasts without a renewal, from the moment it was granted.
    pub timeout: Duration,
    /// The groups, ascending by id.
    pub requests: Vec<SampleRequest>,
}
