//! The whole run as the coordinator sees it, for the figures and for whoever asks.

use crate::{
    meter::Meter,
    recent::{Recent, Sums},
    roll::Roll,
    schedule::Schedule,
};
use riser_core::{
    activity::{LearnerActivity, TimeSpent},
    cluster_status::{ClusterStatus, CoordinatorStatus, LearnerStatus, LeaseStatus},
    ids::{Incarnation, PolicyVersion, WorkerId},
    learner_report::LearnerReport,
    run_event::{LeaseChange, LeaseRecord},
};
use riser_proto::{access::Refusals, join::LearnerPlace, status::MAX_WORKERS};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// What the coordinator keeps for whoever watches; it decides nothing.
pub(crate) struct Overview {
    roll: Arc<Roll>,
    refusals: Refusals,
    meter: Meter,
    recent: Recent,
    learner: Option<Heard>,
    /// The time of all learners so far, as far as it was seen to pass.
    learners: TimeSpent,
    groups: u64,
}

/// What the learner said last.
struct Heard {
    at: Duration,
    incarnation: Incarnation,
    version: PolicyVersion,
    activity: Option<LearnerActivity>,
}

impl Overview {
    pub(crate) fn new(roll: Arc<Roll>, refusals: Refusals) -> Self {
        Self {
            roll,
            refusals,
            meter: Meter::new(),
            recent: Recent::default(),
            learner: None,
            learners: TimeSpent::default(),
            groups: 0,
        }
    }

    /// The learner has reported, and the schedule believes it.
    pub(crate) fn reported(&mut self, report: &LearnerReport, activity: Option<LearnerActivity>, now: Duration) {
        let before = self.learner.take();
        let same = before.filter(|before| before.incarnation == report.learner);
        if let (Some(activity), Some(before)) = (&activity, same.as_ref().and_then(|same| same.activity.as_ref())) {
            self.learners += activity.spent.since(before.spent);
        }
        self.groups = report.received.len();
        let is_news = same.is_none_or(|same| same.version != report.version);
        let (incarnation, version) = (report.learner, report.version);
        self.learner = Some(Heard { at: now, incarnation, version, activity });
        if is_news {
            self.recent.mark(self.sums(now));
        }
    }

    /// Something happened to a lease.
    pub(crate) fn lease(&mut self, record: &LeaseRecord, now: Duration) {
        self.meter.lease(record, now);
        if record.change == LeaseChange::Expired {
            let groups = &record.groups;
            let what = format!("lease {} with groups {} to {} expired", record.lease, groups.start, groups.end - 1);
            self.roll.trouble(record.worker, &what);
        }
    }

    /// Something went wrong with the coordinator itself.
    pub(crate) fn trouble(&self, what: &str) {
        self.roll.own_trouble(what);
    }

    /// A worker waited so long for its lease.
    pub(crate) fn granted_after(&self, wait: Duration) {
        self.meter.granted_after(wait);
    }

    /// Brings the figures up to date.
    pub(crate) fn refresh(&self, schedule: &Schedule, now: Duration) {
        let (_, bottleneck) = self.recent.until(self.sums(now));
        self.meter.stand(self.roll.len(), schedule.version(), &leases(schedule), &bottleneck);
    }

    /// Everything.
    pub(crate) fn status(
        &self,
        schedule: &Schedule,
        coordinator: Incarnation,
        place: Option<LearnerPlace>,
        now: Duration,
    ) -> ClusterStatus {
        let (throughput, bottleneck) = self.recent.until(self.sums(now));
        let (version, total_steps) = (schedule.version(), schedule.total_batches());
        let left = total_steps.saturating_sub(version.map_or(0, |version| version.0));
        let eta = throughput.steps_per_second.map(|speed| left as f64 / speed).filter(|eta| eta.is_finite());
        let mut held: HashMap<WorkerId, u32> = HashMap::new();
        for claim in schedule.claims() {
            *held.entry(claim.worker).or_default() += 1;
        }
        let num_workers = self.roll.len() as u64;
        let mut workers = self.roll.list(version, MAX_WORKERS);
        for worker in &mut workers {
            worker.leases = held.get(&worker.worker).copied().unwrap_or(0);
        }
        let mut troubles = self.roll.troubles();
        troubles.extend(self.refusals.list());
        let learner = self.learner.as_ref().map(|heard| {
            let ago = now.saturating_sub(heard.at).as_secs_f64();
            let activity = heard.activity.as_ref();
            troubles.extend(activity.iter().flat_map(|activity| activity.troubles.iter().cloned()).map(
                |mut trouble| {
                    trouble.seconds_ago += ago;
                    trouble
                },
            ));
            LearnerStatus {
                incarnation: heard.incarnation,
                address: place.map(|place| place.address),
                stage: activity.map(|activity| activity.stage),
                heard_seconds_ago: ago,
            }
        });
        troubles.sort_by(|one, other| one.seconds_ago.total_cmp(&other.seconds_ago));
        ClusterStatus {
            run: self.roll.run(),
            version,
            total_steps,
            eta_seconds: eta,
            coordinator: CoordinatorStatus { incarnation: coordinator, uptime_seconds: now.as_secs_f64() },
            learner,
            workers,
            num_workers,
            leases: leases(schedule),
            throughput,
            bottleneck,
            troubles,
        }
    }

    fn sums(&self, now: Duration) -> Sums {
        let steps = self.learner.as_ref().map_or(0, |heard| heard.version.0);
        // What has passed since the learner last spoke is neither waited nor lived: a dead learner waits for nobody.
        Sums { at: now, steps, groups: self.groups, learner: self.learners, workers: self.roll.spent() }
    }
}

fn leases(schedule: &Schedule) -> LeaseStatus {
    let counts = schedule.counts();
    LeaseStatus {
        in_flight: schedule.num_in_flight() as u64,
        groups_admissible: schedule.num_admissible(),
        workers_waiting: schedule.num_waiting() as u64,
        granted: counts.granted,
        expired: counts.expired,
    }
}
