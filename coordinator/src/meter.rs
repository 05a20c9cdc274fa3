//! The coordinator's figures for Prometheus; `docs/metrics.md` explains them.

use metrics::{Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use riser_core::{
    cluster_status::{Bottleneck, LeaseStatus},
    ids::PolicyVersion,
    lease::LeaseEpoch,
    refusals::RefusalReason,
    run_event::{LeaseChange, LeaseRecord},
};
use std::{collections::HashMap, time::Duration};

const LEASES: &str = "riser_coordinator_leases_total";
const REFUSED: &str = "riser_coordinator_refused_calls_total";
const BOTTLENECK: &str = "riser_bottleneck";

/// Every change of a holding, by the name that the label `outcome` gives it.
const OUTCOMES: [(LeaseChange, &str); 9] = [
    (LeaseChange::Granted, "granted"),
    (LeaseChange::Doubled, "doubled"),
    (LeaseChange::Adopted, "adopted"),
    (LeaseChange::Completed, "completed"),
    (LeaseChange::Released, "returned"),
    (LeaseChange::Expired, "expired"),
    (LeaseChange::Overtaken, "overtaken"),
    (LeaseChange::Outrun, "outrun"),
    (LeaseChange::Rewound, "rewound"),
];

/// A call was refused at the door.
pub(crate) fn refused(reason: RefusalReason) {
    counter!(REFUSED, "reason" => reason.name()).increment(1);
}

/// The instruments.
pub(crate) struct Meter {
    workers: Gauge,
    in_flight: Gauge,
    admissible: Gauge,
    waiting: Gauge,
    version: Gauge,
    waited_for_workers: Gauge,
    waited_for_learner: Gauge,
    lease_seconds: Histogram,
    wait_seconds: Histogram,
    /// When each open holding began.
    held_since: HashMap<LeaseEpoch, Duration>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        describe();
        for (_, outcome) in OUTCOMES {
            counter!(LEASES, "outcome" => outcome).absolute(0);
        }
        for reason in RefusalReason::ALL {
            counter!(REFUSED, "reason" => reason.name()).absolute(0);
        }
        Self {
            workers: gauge!("riser_coordinator_workers"),
            in_flight: gauge!("riser_coordinator_leases_in_flight"),
            admissible: gauge!("riser_coordinator_groups_admissible"),
            waiting: gauge!("riser_coordinator_workers_waiting"),
            version: gauge!("riser_coordinator_learner_version"),
            waited_for_workers: gauge!(BOTTLENECK, "role" => "worker"),
            waited_for_learner: gauge!(BOTTLENECK, "role" => "learner"),
            lease_seconds: histogram!("riser_coordinator_lease_seconds"),
            wait_seconds: histogram!("riser_coordinator_lease_wait_seconds"),
            held_since: HashMap::new(),
        }
    }

    /// Something happened to a lease.
    pub(crate) fn lease(&mut self, record: &LeaseRecord, now: Duration) {
        if let Some((_, outcome)) = OUTCOMES.iter().find(|(change, _)| *change == record.change) {
            counter!(LEASES, "outcome" => *outcome).increment(1);
        }
        match record.change {
            LeaseChange::Granted | LeaseChange::Doubled | LeaseChange::Adopted => {
                self.held_since.insert(record.epoch, now);
            }
            change => {
                let since = self.held_since.remove(&record.epoch);
                if let (LeaseChange::Completed, Some(since)) = (change, since) {
                    self.lease_seconds.record(now.saturating_sub(since));
                }
            }
        }
    }

    /// A worker waited so long for its lease.
    pub(crate) fn granted_after(&self, wait: Duration) {
        self.wait_seconds.record(wait);
    }

    /// How things stand.
    pub(crate) fn stand(
        &self,
        workers: usize,
        version: Option<PolicyVersion>,
        leases: &LeaseStatus,
        bottleneck: &Bottleneck,
    ) {
        self.workers.set(workers as f64);
        self.in_flight.set(leases.in_flight as f64);
        self.admissible.set(leases.groups_admissible as f64);
        self.waiting.set(leases.workers_waiting as f64);
        self.version.set(version.map_or(0.0, |version| version.0 as f64));
        self.waited_for_workers.set(bottleneck.waited_for_workers.unwrap_or(0.0));
        self.waited_for_learner.set(bottleneck.waited_for_learner.unwrap_or(0.0));
    }
}

fn describe() {
    describe_gauge!("riser_coordinator_workers", "Workers that have joined and are alive");
    describe_gauge!("riser_coordinator_leases_in_flight", "Holdings of leases");
    describe_gauge!("riser_coordinator_groups_admissible", "Groups that may be leased now and are not");
    describe_gauge!("riser_coordinator_workers_waiting", "Questions for work that wait for an answer");
    describe_gauge!("riser_coordinator_learner_version", "Newest policy version that the learner has reported");
    describe_gauge!(BOTTLENECK, "Share of the recent time that the run waited for the role");
    describe_counter!(LEASES, "What happened to holdings of leases");
    describe_counter!(REFUSED, "Calls that were refused at the door");
    describe_histogram!("riser_coordinator_lease_seconds", "Seconds from grant to completion");
    describe_histogram!("riser_coordinator_lease_wait_seconds", "Seconds from a question for work to its grant");
}
