//! A run on its way, as its coordinator sees it: what `riser status` shows.

use crate::{
    activity::{LearnerStage, Trouble, WorkerStage},
    digest::Digest,
    ids::{Incarnation, PolicyVersion, WorkerId},
};
use serde::Serialize;

/// Everything at one moment. Durations are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// Which run; `None` if its roles share one process and need no name for it.
    pub run: Option<Digest>,
    /// Steps taken, as far as the coordinator has heard; `None` before the learner has reported.
    pub version: Option<PolicyVersion>,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Time until the end at the present speed.
    pub eta_seconds: Option<f64>,
    /// The coordinator.
    pub coordinator: CoordinatorStatus,
    /// The learner, once it has reported.
    pub learner: Option<LearnerStatus>,
    /// The workers that are there, by number; of very many only the first.
    pub workers: Vec<WorkerStatus>,
    /// How many workers are there.
    pub num_workers: u64,
    /// The work on loan.
    pub leases: LeaseStatus,
    /// Speed of the recent past.
    pub throughput: Throughput,
    /// Who waits for whom.
    pub bottleneck: Bottleneck,
    /// What went wrong lately, newest first.
    pub troubles: Vec<Trouble>,
}

/// The coordinator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoordinatorStatus {
    /// Which start.
    pub incarnation: Incarnation,
    /// Time since then.
    pub uptime_seconds: f64,
}

/// The learner.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearnerStatus {
    /// Which start.
    pub incarnation: Incarnation,
    /// Where workers reach it, if they have to be told.
    pub address: Option<String>,
    /// What it was at when it last reported.
    pub stage: Option<LearnerStage>,
    /// Time since it last reported.
    pub heard_seconds_ago: f64,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerStatus {
    /// Its number.
    pub worker: WorkerId,
    /// What it calls itself.
    pub name: String,
    /// Where its connection comes from.
    pub address: Option<String>,
    /// What it was at when it was last heard of.
    pub stage: Option<WorkerStage>,
    /// Newest policy in its hands.
    pub version: Option<PolicyVersion>,
    /// Versions by which that is behind the learner's.
    pub lag: Option<u64>,
    /// Leases that it holds.
    pub leases: u32,
    /// Groups that it has delivered since it started.
    pub groups: u64,
    /// Time since it was last heard of.
    pub heard_seconds_ago: f64,
}

/// Versions by which a worker is behind; 0 also while it holds a version that the coordinator has not heard of yet.
pub fn lag(version: Option<PolicyVersion>, newest: Option<PolicyVersion>) -> Option<u64> {
    Some(newest?.0.saturating_sub(version?.0))
}

/// The work on loan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeaseStatus {
    /// Holdings right now.
    pub in_flight: u64,
    /// Groups that may be leased now and are not.
    pub groups_admissible: u64,
    /// Questions for work that wait for an answer.
    pub workers_waiting: u64,
    /// Leases handed out since the coordinator started.
    pub granted: u64,
    /// Those of them that expired.
    pub expired: u64,
}

/// Speed of the recent past; `None` before there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Throughput {
    /// Groups that the learner received per second.
    pub groups_per_second: Option<f64>,
    /// Steps per second.
    pub steps_per_second: Option<f64>,
}

/// A role that others can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The workers, taken together.
    Worker,
    /// The learner.
    Learner,
}

/// Least share of time that has to be waited for a role before it is called the bottleneck.
pub const LEAST_WAIT: f64 = 0.1;

/// Who waits for whom, as shares of the recent time from 0 to 1; `None` before there is any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bottleneck {
    /// The role that the others wait for, if there is one.
    pub role: Option<Role>,
    /// Share of its time that the learner waited for groups.
    pub waited_for_workers: Option<f64>,
    /// Share of their time that the workers waited for a lease or a policy.
    pub waited_for_learner: Option<f64>,
}

impl Bottleneck {
    /// The rule: the role for which the other one waited the larger share of its time, if that is at least
    /// [`LEAST_WAIT`]. A run whose roles both hardly wait, or wait alike, has no bottleneck.
    pub fn of(waited_for_workers: Option<f64>, waited_for_learner: Option<f64>) -> Self {
        let (workers, learner) = (waited_for_workers.unwrap_or(0.0), waited_for_learner.unwrap_or(0.0));
        let role = if workers.max(learner) < LEAST_WAIT || workers == learner {
            None
        } else if workers > learner {
            Some(Role::Worker)
        } else {
            Some(Role::Learner)
        };
        Self { role, waited_for_workers, waited_for_learner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_that_is_waited_for_longer_is_the_bottleneck_unless_hardly_anybody_waits() {
        let role = |workers, learner| Bottleneck::of(workers, learner).role;
        assert_eq!(role(Some(0.7), Some(0.2)), Some(Role::Worker));
        assert_eq!(role(Some(0.2), Some(0.7)), Some(Role::Learner));
        assert_eq!(role(Some(0.1), Some(0.0)), Some(Role::Worker));
        assert_eq!(role(Some(0.09), Some(0.0)), None);
        assert_eq!(role(Some(0.5), Some(0.5)), None);
        assert_eq!(role(None, Some(0.5)), Some(Role::Learner));
        assert_eq!(role(None, None), None);
    }
}
