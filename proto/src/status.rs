//! What roles say about themselves, and the whole of it, on the wire.

use crate::{WireError, error, lease::millis, v1};
use riser_core::{
    activity::{LearnerActivity, LearnerStage, MAX_TROUBLES, TimeSpent, Trouble, WorkerReport, WorkerStage, readable},
    cluster_status::{
        Bottleneck, ClusterStatus, CoordinatorStatus, LearnerStatus, LeaseStatus, Throughput, WorkerStatus, lag,
    },
    ids::{Incarnation, PolicyVersion, WorkerId},
    refusals::MAX_REFUSED,
};
use std::time::Duration;

/// Workers of a status, so that it always fits into a message.
pub const MAX_WORKERS: usize = 10_000;

/// Troubles that one role tells at one time.
const MAX_TOLD: usize = MAX_TROUBLES + MAX_REFUSED;

/// Names that the two enumerations of each stage share.
macro_rules! stages {
    ($stage:ident: $($name:ident),+) => {
        impl From<$stage> for v1::$stage {
            fn from(stage: $stage) -> Self {
                match stage { $($stage::$name => Self::$name),+ }
            }
        }

        impl TryFrom<v1::$stage> for $stage {
            type Error = WireError;

            fn try_from(stage: v1::$stage) -> Result<Self, WireError> {
                match stage {
                    v1::$stage::Unspecified => Err(WireError::Missing { field: "stage" }),
                    $(v1::$stage::$name => Ok(Self::$name)),+
                }
            }
        }
    };
}

stages!(WorkerStage: WaitingForLease, WaitingForPolicy, Sampling, Sending);
stages!(LearnerStage: Starting, WaitingForGroups, Stepping, Evaluating, Saving);

/// A stage that must be known, or unspecified.
fn stage<W: TryFrom<i32>>(value: i32) -> Result<W, WireError> {
    W::try_from(value).map_err(|_| WireError::Unknown { field: "stage", value })
}

fn spent(lived_millis: u64, waited_millis: u64) -> Result<TimeSpent, WireError> {
    if waited_millis > lived_millis {
        let rule = "at most `lived_millis`";
        return Err(WireError::Range { field: "waited_millis", value: waited_millis.to_string(), rule });
    }
    Ok(TimeSpent { lived: Duration::from_millis(lived_millis), waited: Duration::from_millis(waited_millis) })
}

impl From<WorkerReport> for v1::WorkerReport {
    fn from(WorkerReport { version, stage, spent, groups }: WorkerReport) -> Self {
        Self {
            version: version.map(|version| version.0),
            stage: v1::WorkerStage::from(stage).into(),
            lived_millis: millis(spent.lived),
            waited_millis: millis(spent.waited),
            groups,
        }
    }
}

impl TryFrom<v1::WorkerReport> for WorkerReport {
    type Error = WireError;

    fn try_from(report: v1::WorkerReport) -> Result<Self, WireError> {
        Ok(Self {
            version: report.version.map(PolicyVersion),
            stage: stage::<v1::WorkerStage>(report.stage)?.try_into()?,
            spent: spent(report.lived_millis, report.waited_millis)?,
            groups: report.groups,
        })
    }
}

impl From<LearnerActivity> for v1::LearnerActivity {
    fn from(LearnerActivity { stage, spent, troubles }: LearnerActivity) -> Self {
        Self {
            stage: v1::LearnerStage::from(stage).into(),
            lived_millis: millis(spent.lived),
            waited_millis: millis(spent.waited),
            troubles: troubles.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::LearnerActivity> for LearnerActivity {
    type Error = WireError;

    fn try_from(activity: v1::LearnerActivity) -> Result<Self, WireError> {
        Ok(Self {
            stage: stage::<v1::LearnerStage>(activity.stage)?.try_into()?,
            spent: spent(activity.lived_millis, activity.waited_millis)?,
            troubles: troubles(activity.troubles, MAX_TOLD)?,
        })
    }
}

fn troubles(troubles: Vec<v1::Trouble>, limit: usize) -> Result<Vec<Trouble>, WireError> {
    if troubles.len() > limit {
        return Err(WireError::TooLarge { field: "troubles", got: troubles.len() as u64, limit: limit as u64 });
    }
    Ok(troubles.into_iter().map(Into::into).collect())
}

impl From<Trouble> for v1::Trouble {
    fn from(Trouble { who, what, seconds_ago }: Trouble) -> Self {
        Self { who, what, millis_ago: whole_millis(seconds_ago) }
    }
}

impl From<v1::Trouble> for Trouble {
    fn from(v1::Trouble { who, what, millis_ago }: v1::Trouble) -> Self {
        Self { who: readable(&who), what: readable(&what), seconds_ago: seconds(millis_ago) }
    }
}

fn whole_millis(seconds: f64) -> u64 {
    (seconds * 1e3) as u64
}

fn seconds(millis: u64) -> f64 {
    Duration::from_millis(millis).as_secs_f64()
}

impl From<ClusterStatus> for v1::StatusReply {
    fn from(status: ClusterStatus) -> Self {
        let LeaseStatus { in_flight, groups_admissible, workers_waiting, granted, expired } = status.leases;
        Self {
            run: status.run.map(|run| run.as_bytes().to_vec().into()),
            version: status.version.map(|version| version.0),
            total_steps: status.total_steps,
            eta_seconds: status.eta_seconds,
            coordinator: status.coordinator.incarnation.0,
            uptime_millis: whole_millis(status.coordinator.uptime_seconds),
            learner: status.learner.map(|learner| v1::LearnerStatus {
                incarnation: learner.incarnation.0,
                address: learner.address,
                stage: learner.stage.map_or(v1::LearnerStage::Unspecified, Into::into).into(),
                heard_millis_ago: whole_millis(learner.heard_seconds_ago),
            }),
            workers: status.workers.into_iter().take(MAX_WORKERS).map(Into::into).collect(),
            num_workers: status.num_workers,
            leases: Some(v1::LeaseStatus { in_flight, groups_admissible, workers_waiting, granted, expired }),
            groups_per_second: status.throughput.groups_per_second,
            steps_per_second: status.throughput.steps_per_second,
            waited_for_workers: status.bottleneck.waited_for_workers,
            waited_for_learner: status.bottleneck.waited_for_learner,
            troubles: status.troubles.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<WorkerStatus> for v1::WorkerStatus {
    fn from(worker: WorkerStatus) -> Self {
        Self {
            worker: worker.worker.0,
            name: worker.name,
            address: worker.address,
            stage: worker.stage.map_or(v1::WorkerStage::Unspecified, Into::into).into(),
            version: worker.version.map(|version| version.0),
            leases: worker.leases,
            groups: worker.groups,
            heard_millis_ago: whole_millis(worker.heard_seconds_ago),
        }
    }
}

impl TryFrom<v1::StatusReply> for ClusterStatus {
    type Error = WireError;

    fn try_from(reply: v1::StatusReply) -> Result<Self, WireError> {
        let version = reply.version.map(PolicyVersion);
        let v1::LeaseStatus { in_flight, groups_admissible, workers_waiting, granted, expired } =
            reply.leases.ok_or(WireError::Missing { field: "leases" })?;
        let waited_for_workers = share("waited_for_workers", reply.waited_for_workers)?;
        let waited_for_learner = share("waited_for_learner", reply.waited_for_learner)?;
        Ok(Self {
            run: reply.run.map(|run| error::digest("run", &run)).transpose()?,
            version,
            total_steps: reply.total_steps,
            eta_seconds: positive("eta_seconds", reply.eta_seconds)?,
            coordinator: CoordinatorStatus {
                incarnation: Incarnation(reply.coordinator),
                uptime_seconds: seconds(reply.uptime_millis),
            },
            learner: reply.learner.map(LearnerStatus::try_from).transpose()?,
            workers: reply.workers.into_iter().map(|status| worker(status, version)).collect::<Result<_, _>>()?,
            num_workers: reply.num_workers,
            leases: LeaseStatus { in_flight, groups_admissible, workers_waiting, granted, expired },
            throughput: Throughput {
                groups_per_second: positive("groups_per_second", reply.groups_per_second)?,
                steps_per_second: positive("steps_per_second", reply.steps_per_second)?,
            },
            bottleneck: Bottleneck::of(waited_for_workers, waited_for_learner),
            troubles: troubles(reply.troubles, 2 * MAX_TOLD)?,
        })
    }
}

impl TryFrom<v1::LearnerStatus> for LearnerStatus {
    type Error = WireError;

    fn try_from(learner: v1::LearnerStatus) -> Result<Self, WireError> {
        Ok(Self {
            incarnation: Incarnation(learner.incarnation),
            address: learner.address.map(|address| readable(&address)),
            stage: match stage(learner.stage)? {
                v1::LearnerStage::Unspecified => None,
                known => Some(known.try_into()?),
            },
            heard_seconds_ago: seconds(learner.heard_millis_ago),
        })
    }
}

fn worker(worker: v1::WorkerStatus, newest: Option<PolicyVersion>) -> Result<WorkerStatus, WireError> {
    let version = worker.version.map(PolicyVersion);
    Ok(WorkerStatus {
        worker: WorkerId(worker.worker),
        name: readable(&worker.name),
        address: worker.address.map(|address| readable(&address)),
        stage: match stage(worker.stage)? {
            v1::WorkerStage::Unspecified => None,
            known => Some(known.try_into()?),
        },
        version,
        lag: lag(version, newest),
        leases: worker.leases,
        groups: worker.groups,
        heard_seconds_ago: seconds(worker.heard_millis_ago),
    })
}

fn positive(field: &'static str, value: Option<f64>) -> Result<Option<f64>, WireError> {
    match value {
        Some(value) if !(value.is_finite() && value >= 0.0) => {
            Err(WireError::Range { field, value: value.to_string(), rule: "a finite number of at least 0" })
        }
        value => Ok(value),
    }
}

fn share(field: &'static str, value: Option<f64>) -> Result<Option<f64>, WireError> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            Err(WireError::Range { field, value: value.to_string(), rule: "a share from 0 to 1" })
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests;
