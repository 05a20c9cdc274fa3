//! Leases on the wire.

use crate::{WireError, catalog, error::digest, v1};
use riser_core::{
    group_set::GroupSet,
    ids::{GroupId, Incarnation, ItemIndex, PolicyVersion, RowId, WorkerId},
    learner_report::LearnerReport,
    lease::{Claim, Lease, LeaseEpoch, LeaseId, Prompt, SampleRequest},
};
use std::time::Duration;

/// What a worker learns when it asks for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseReply {
    /// Groups to sample.
    Work(Lease),
    /// Nothing yet.
    Wait,
    /// The run is over.
    Done,
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The learner has every group.
    Done,
    /// The holder gave it back.
    Released,
}

/// Whole milliseconds, as durations travel.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<LeaseReply> for v1::LeaseReply {
    fn from(reply: LeaseReply) -> Self {
        use v1::lease_reply::Outcome;
        let outcome = match reply {
            LeaseReply::Work(lease) => Outcome::Lease(lease.into()),
            LeaseReply::Wait => Outcome::Wait(v1::Wait {}),
            LeaseReply::Done => Outcome::Done(v1::Done {}),
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<v1::LeaseReply> for LeaseReply {
    type Error = WireError;

    fn try_from(reply: v1::LeaseReply) -> Result<Self, WireError> {
        use v1::lease_reply::Outcome;
        match reply.outcome.ok_or(WireError::Missing { field: "outcome" })? {
            Outcome::Lease(lease) => lease.try_into().map(Self::Work),
            Outcome::Wait(v1::Wait {}) => Ok(Self::Wait),
            Outcome::Done(v1::Done {}) => Ok(Self::Done),
        }
    }
}

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        let request = |SampleRequest { id, row, prompt }: SampleRequest| v1::SampleRequest {
            id: id.0,
            row: row.0,
            prompt: prompt.tokens,
            target: prompt.target.0,
        };
        Self {
            id: lease.id.0,
            epoch: lease.epoch.0,
            version: lease.version.0,
            catalog: lease.catalog.as_bytes().to_vec().into(),
            timeout_millis: millis(lease.timeout),
            requests: lease.requests.into_iter().map(request).collect(),
        }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = WireError;

    fn try_from(lease: v1::Lease) -> Result<Self, WireError> {
        if lease.requests.is_empty() {
            return Err(WireError::Missing { field: "requests" });
        }
        if let Some(pair) = lease.requests.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            return Err(WireError::Unordered { got: pair[1].id, before: pair[0].id });
        }
        let request = |request: v1::SampleRequest| SampleRequest {
            id: GroupId(request.id),
            row: RowId(request.row),
            prompt: Prompt { tokens: request.prompt, target: ItemIndex(request.target) },
        };
        Ok(Self {
            id: LeaseId(lease.id),
            epoch: LeaseEpoch(lease.epoch),
            version: PolicyVersion(lease.version),
            catalog: digest("catalog", &lease.catalog)?,
            timeout: Duration::from_millis(lease.timeout_millis),
            requests: lease.requests.into_iter().map(request).collect(),
        })
    }
}

impl From<Claim> for v1::Claim {
    fn from(Claim { lease, epoch, worker, version }: Claim) -> Self {
        Self { lease: lease.0, epoch: epoch.0, worker: worker.0, version: version.0 }
    }
}

impl From<v1::Claim> for Claim {
    fn from(v1::Claim { lease, epoch, worker, version }: v1::Claim) -> Self {
        let (lease, epoch) = (LeaseId(lease), LeaseEpoch(epoch));
        Self { lease, epoch, worker: WorkerId(worker), version: PolicyVersion(version) }
    }
}

impl From<LearnerReport> for v1::AdvanceRequest {
    fn from(report: LearnerReport) -> Self {
        Self {
            version: report.version.0,
            learner: report.learner.0,
            start: report.start,
            taken: report.taken,
            received_below: report.received.first_gap(),
            received: report.received.behind_gap().collect(),
            address: String::new(),
            activity: None,
            catalogs: catalog::eras(report.catalogs),
        }
    }
}

impl TryFrom<v1::AdvanceRequest> for LearnerReport {
    type Error = WireError;

    fn try_from(request: v1::AdvanceRequest) -> Result<Self, WireError> {
        Ok(Self {
            learner: Incarnation(request.learner),
            start: request.start,
            version: PolicyVersion(request.version),
            taken: request.taken,
            received: GroupSet::new(request.received_below, request.received),
            catalogs: catalog::plan(request.catalogs)?,
        })
    }
}

impl From<LeaseOutcome> for v1::LeaseOutcome {
    fn from(outcome: LeaseOutcome) -> Self {
        match outcome {
            LeaseOutcome::Done => Self::Done,
            LeaseOutcome::Released => Self::Released,
        }
    }
}

impl LeaseOutcome {
    /// Reads the field `outcome` of a request.
    ///
    /// # Errors
    /// [`WireError::Unknown`].
    pub fn from_wire(value: i32) -> Result<Self, WireError> {
        match v1::LeaseOutcome::try_from(value) {
            Ok(v1::LeaseOutcome::Done) => Ok(Self::Done),
            Ok(v1::LeaseOutcome::Released) => Ok(Self::Released),
            _ => Err(WireError::Unknown { field: "outcome", value }),
        }
    }
}
