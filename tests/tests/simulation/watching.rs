//! What the coordinator says to whoever watches, from what the roles say to it.

use crate::{
    hash_policy, network,
    scenario::{SEED, Scenario, prompts},
};
use riser_core::{
    activity::{LearnerStage, WorkerStage},
    catalog::plan::CatalogPlan,
    cluster_status::{ClusterStatus, Role},
    group_set::GroupSet,
    ids::{Incarnation, PolicyVersion},
    learner_report::LearnerReport,
};
use riser_proto::{
    transport::{self, Channel},
    v1::{self, coordinator_client::CoordinatorClient, watch_client::WatchClient},
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A coordinator without anybody else, in simulated time.
struct Alone {
    coordinator: CoordinatorClient<Channel>,
    watch: WatchClient<Channel>,
    _stop: DropGuard,
}

impl Alone {
    fn start() -> Self {
        let (place, stop) = (network::place(), CancellationToken::new());
        let (incoming, connect, ended) = (place.incoming, place.connect, stop.clone());
        let schedule = Scenario::new(1, 2).schedule(1);
        tokio::spawn(async move {
            let (log, tree) = (mpsc::channel(1).0, hash_policy::tree());
            riser_coordinator::run(schedule, SEED, prompts(), &tree, incoming, log, ended).await.unwrap();
        });
        let coordinator = transport::coordinator_client(connect());
        Self { coordinator, watch: transport::watch_client(connect()), _stop: stop.drop_guard() }
    }

    /// The learner has reached `version`, and has lived and waited for so many seconds.
    async fn learner(&mut self, version: u64, lived: u64, waited: u64, troubles: Vec<v1::Trouble>) {
        let activity = v1::LearnerActivity {
            stage: v1::LearnerStage::Stepping.into(),
            lived_millis: 1000 * lived,
            waited_millis: 1000 * waited,
            troubles,
        };
        let report = LearnerReport {
            learner: Incarnation(1),
            start: 1,
            version: PolicyVersion(version),
            taken: version,
            received: GroupSet::below(10 * version),
            catalogs: CatalogPlan::new(hash_policy::tree().digest()),
        };
        let report = v1::AdvanceRequest { activity: Some(activity), ..report.into() };
        self.coordinator.advance(report).await.unwrap();
    }

    async fn ask(&mut self, worker: u64, report: v1::WorkerReport) -> Result<(), tonic::Status> {
        let request = v1::LeaseRequest { worker, wait_millis: 0, report: Some(report) };
        self.coordinator.lease(request).await.map(drop)
    }

    async fn status(&mut self) -> ClusterStatus {
        self.watch.status(v1::StatusRequest {}).await.unwrap().into_inner().try_into().unwrap()
    }
}

/// A worker that has lived and waited for so many seconds.
fn worker(version: u64, lived: u64, waited: u64) -> v1::WorkerReport {
    let stage = v1::WorkerStage::WaitingForLease.into();
    let (lived_millis, waited_millis) = (1000 * lived, 1000 * waited);
    v1::WorkerReport { version: Some(version), stage, lived_millis, waited_millis, groups: 4 }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_bottleneck_the_speed_and_the_lag_follow_from_what_the_roles_say() {
    let mut run = Alone::start();
    let status = run.status().await;
    assert_eq!((status.version, status.learner, status.bottleneck.role), (None, None, None));
    run.learner(0, 100, 90, vec![]).await;
    run.ask(1, worker(0, 50, 1)).await.unwrap();
    pass(10).await;
    // Of ten seconds the learner waited eight, the worker one.
    run.ask(1, worker(0, 60, 2)).await.unwrap();
    run.learner(1, 110, 98, vec![]).await;
    run.ask(1, worker(0, 60, 2)).await.unwrap();
    let status = run.status().await;
    let shares = (status.bottleneck.waited_for_workers, status.bottleneck.waited_for_learner);
    assert_eq!((status.bottleneck.role, shares), (Some(Role::Worker), (Some(0.8), Some(0.1))));
    let near = |value: Option<f64>, expected: f64| assert!((value.unwrap() / expected - 1.0).abs() < 0.01, "{value:?}");
    near(status.throughput.steps_per_second, 0.1);
    near(status.throughput.groups_per_second, 1.0);
    // Six of seven steps are left.
    near(status.eta_seconds, 60.0);
    let [seen] = &status.workers[..] else { panic!("{:?}", status.workers) };
    assert_eq!((seen.version, seen.lag, seen.leases, seen.groups), (Some(PolicyVersion(0)), Some(1), 1, 4));
    assert_eq!(seen.stage, Some(WorkerStage::WaitingForLease));
    assert_eq!(status.learner.unwrap().stage, Some(LearnerStage::Stepping));
    // Two leases of batch 0 are done with. Lag 1 opens batches 1 and 2, and one lease of four groups is out.
    assert_eq!((status.leases.granted, status.leases.in_flight, status.leases.groups_admissible), (3, 1, 16));

    pass(90).await;
    // Meanwhile only the workers waited.
    run.ask(1, worker(1, 150, 92)).await.unwrap();
    run.learner(2, 200, 98, vec![]).await;
    let status = run.status().await;
    assert_eq!(status.bottleneck.role, Some(Role::Learner), "{:?}", status.bottleneck);
}

#[tokio::test(start_paused = true)]
async fn troubles_of_the_learner_and_leases_that_expire_are_told_newest_first_with_their_age() {
    let mut run = Alone::start();
    let trouble = v1::Trouble { who: "worker 3".into(), what: "group 7: NaN".into(), millis_ago: 2000 };
    run.learner(0, 1, 1, vec![trouble]).await;
    run.ask(1, worker(0, 1, 0)).await.unwrap();
    pass(40).await;
    let status = run.status().await;
    let told: Vec<_> = status.troubles.iter().map(|told| (told.who.as_str(), told.what.as_str())).collect();
    let expired = "lease 0 with groups 0 to 3 expired";
    assert_eq!(told, [("worker 1", expired), ("worker 3", "group 7: NaN")], "{status:?}");
    assert!((status.troubles[1].seconds_ago - 42.0).abs() < 0.5, "{status:?}");
    assert_eq!((status.leases.expired, status.leases.in_flight), (1, 0));
    // Silence that is long enough is absence.
    pass(40).await;
    assert_eq!(run.status().await.num_workers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_cannot_be_true_is_refused_and_takes_no_place() {
    let mut run = Alone::start();
    let lie = v1::WorkerReport { waited_millis: 2, lived_millis: 1, ..worker(0, 0, 0) };
    let refused = run.ask(1, lie).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("waited_millis"), "{refused}");
    assert_eq!(run.status().await.num_workers, 0);
}
