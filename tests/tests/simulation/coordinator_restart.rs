//! A coordinator that is killed and started again: workers keep what they hold, and the run computes the same.

use crate::{
    event_log::Logged,
    hash_policy::{self, HashTrainer},
    network::Rebootable,
    scenario::{self, Scenario},
};
use riser_core::{ids::WorkerId, run_event::RunEvent};
use riser_learner::{Event, LearnerConfig};
use riser_rollout_worker::{Summary, WorkerConfig};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// A coordinator that can be killed.
struct Coordinator {
    place: Rebootable,
    log: mpsc::Sender<RunEvent>,
    incarnation: u32,
    running: Option<JoinHandle<()>>,
}

impl Coordinator {
    /// Kills the present one, if there is one, and starts the next.
    fn reboot(&mut self, scenario: &Scenario) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        self.incarnation += 1;
        let (schedule, incoming, log) = (scenario.schedule(self.incarnation), self.place.boot(), self.log.clone());
        self.running = Some(tokio::spawn(async move {
            let (prompts, tree, stop) = (scenario::prompts(), hash_policy::tree(), CancellationToken::new());
            riser_coordinator::run(schedule, scenario::SEED, prompts, &tree, incoming, log, stop).await.unwrap();
        }));
    }
}

/// Runs `scenario` and kills the coordinator whenever the learner has reached one of `kills`; at each kill the workers are
/// asking, sampling or submitting, as it happens. Returns what the workers did.
async fn run(scenario: &Scenario, kills: &[u64]) -> (riser_learner::Outcome, Vec<Summary>) {
    let logged = Logged::new(scenario);
    let session = logged.session();
    let mut coordinator =
        Coordinator { place: Rebootable::default(), log: session.sender.clone(), incarnation: 0, running: None };
    coordinator.reboot(scenario);
    let learner_place = crate::network::place();
    let config =
        LearnerConfig { log: Some(session.sender.clone()), report_every: Duration::from_secs(1), ..scenario.learner() };
    let (events, mut observed) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let learner = tokio::spawn(riser_learner::run(
        config,
        Box::new(HashTrainer::new()),
        hash_policy::tree(),
        coordinator.place.connect(),
        learner_place.incoming,
        events,
        stop.clone(),
    ));
    let mut workers = JoinSet::new();
    for id in 0..scenario.num_workers as u64 {
        let config = WorkerConfig { id: WorkerId(id), ..scenario.cluster().worker };
        let samplers = Arc::new(scenario::hash_samplers);
        let (to_coordinator, to_learner) = (coordinator.place.connect(), (learner_place.connect)());
        workers.spawn(riser_rollout_worker::run(config, to_coordinator, to_learner, samplers, stop.clone()));
    }
    while let Some(event) = observed.recv().await {
        if matches!(&event, Event::Step(report) if kills.contains(&report.version.0)) {
            coordinator.reboot(scenario);
        }
    }
    let outcome = learner.await.unwrap().unwrap();
    let mut summaries = vec![];
    while let Some(ended) = workers.join_next().await {
        summaries.push(ended.unwrap().unwrap());
    }
    coordinator.running.take().unwrap().abort();
    coordinator.place.boot();
    drop(coordinator);
    session.finish().await;
    let audit = logged.audit();
    assert_eq!(audit.violations, []);
    assert_eq!(audit.account.unwrap().trained, 70);
    (outcome, summaries)
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_coordinator_is_killed_again_and_again_computes_the_same_and_no_worker_stops() {
    for lag in [0, 1, 2] {
        for num_workers in [1, 3] {
            let scenario = Scenario::new(lag, num_workers);
            let (outcome, workers) = run(&scenario, &[1, 2, 4, 6]).await;
            assert_eq!(outcome.digest, scenario.oracle(), "lag {lag}, {num_workers} workers");
            let groups: u64 = workers.iter().map(|worker| worker.groups).sum();
            assert!(groups >= 70, "{workers:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bounded_run_keeps_its_bound_when_its_coordinator_is_killed() {
    let mut scenario = Scenario::new(0, 3);
    scenario.max_staleness = Some(1);
    let (outcome, _) = run(&scenario, &[1, 3, 5]).await;
    assert!(outcome.finished);
}
