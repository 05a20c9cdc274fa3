//! Work on loan: the prompts a worker samples in one go, with which policy, and for how long they are its own.

use crate::ids::{GroupId, ItemIndex, PolicyVersion, RowId};
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

/// How often a lease has been handed out: the fencing token that tells its present holder from earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseEpoch(pub u64);

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
    /// How long the lease lasts without a renewal, from the moment it was granted.
    pub timeout: Duration,
    /// The groups, ascending by id.
    pub requests: Vec<SampleRequest>,
}
