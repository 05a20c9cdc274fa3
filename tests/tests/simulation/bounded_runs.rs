//! Whole runs in bounded mode: not the same bits, but the same promises.

use crate::{event_log::Logged, hash_policy::HashTrainer, scenario::Scenario};
use riser_learner::{Event, checkpoint};

fn bounded(max_staleness: u32, num_workers: usize) -> Scenario {
    let mut scenario = Scenario::new(0, num_workers);
    scenario.max_staleness = Some(max_staleness);
    scenario
}

fn staleness(events: &[Event]) -> Vec<u64> {
    let steps = events.iter().filter_map(|event| match event {
        Event::Step(report) => Some(report.staleness),
        _ => None,
    });
    steps.collect()
}

#[tokio::test(start_paused = true)]
async fn every_group_is_trained_on_once_within_the_bound_with_any_number_of_workers() {
    for max_staleness in [0, 1, 3] {
        for num_workers in [1, 3] {
            let scenario = bounded(max_staleness, num_workers);
            let logged = Logged::new(&scenario);
            let session = logged.session();
            let mut config = scenario.cluster();
            config.learner.log = Some(session.sender.clone());
            let (outcome, events) = scenario.run_watched(config, Box::new(HashTrainer::new()), |_, _| {}).await;
            assert!(outcome.unwrap().finished);
            let staleness = staleness(&events);
            assert_eq!(staleness.len(), 7);
            assert!(staleness.iter().all(|&staleness| staleness <= max_staleness.into()), "{staleness:?}");
            session.finish().await;
            let audit = logged.audit();
            assert_eq!(audit.violations, []);
            assert_eq!(audit.account.map(|account| (account.trained, account.refused)), Some((70, 0)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_goes_on_without_losing_or_repeating_a_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = bounded(2, 3);
    scenario.checkpoints = Some(folder.path().to_owned());
    let logged = Logged::new(&scenario);
    for interrupted_at in [2, 5, 99] {
        let session = logged.session();
        let mut config = scenario.cluster();
        config.learner.log = Some(session.sender.clone());
        config.learner.incarnation = session.incarnation;
        let mut trainer = HashTrainer::new();
        if let Some(newest) = checkpoint::latest(folder.path()).unwrap() {
            let checkpoint = checkpoint::open(&newest).unwrap();
            config.learner.start_version = checkpoint.manifest.version;
            config.learner.start_digest = Some(checkpoint.manifest.policy);
            config.learner.consumed = checkpoint.manifest.consumed;
            assert_eq!(checkpoint.retained, [], "new leases name the newest version");
            trainer = HashTrainer::open(&newest);
        }
        let watch = move |event: &Event, shutdown: &tokio_util::sync::CancellationToken| {
            if matches!(event, Event::Step(report) if report.version.0 == interrupted_at) {
                shutdown.cancel();
            }
        };
        let (outcome, _) = scenario.run_watched(config, Box::new(trainer), watch).await;
        let outcome = outcome.unwrap();
        assert!(outcome.finished || outcome.version.0 >= interrupted_at);
        session.finish().await;
    }
    let audit = logged.audit();
    assert_eq!(audit.violations, []);
    assert_eq!((audit.version, audit.account.unwrap().trained), (7, 70));
}

#[tokio::test(start_paused = true)]
async fn a_run_in_lockstep_leaves_a_clean_log_too() {
    let scenario = Scenario::new(1, 3);
    let logged = Logged::new(&scenario);
    let session = logged.session();
    let mut config = scenario.cluster();
    config.learner.log = Some(session.sender.clone());
    let (outcome, _) = scenario.run_watched(config, Box::new(HashTrainer::new()), |_, _| {}).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
    session.finish().await;
    let audit = logged.audit();
    assert_eq!(audit.violations, []);
    assert_eq!(audit.account.unwrap().trained, 70);
}
