//! Logs that have no room for a while: the learner pauses, and keeps nothing that they do not tell.

use crate::{hash_policy::HashTrainer, scenario::Scenario};
use riser::cluster::ClusterError;
use riser_learner::{Event, LearnerError, Outcome, checkpoint, steps::StepError};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// Longer than a learner that goes on needs for the whole run.
const LONG: Duration = Duration::from_secs(100);

/// A run one of whose logs has written `written` steps and evaluations so far.
struct Paused {
    log: watch::Sender<u64>,
    seen: Arc<Mutex<Vec<Event>>>,
    running: JoinHandle<Result<Outcome, ClusterError>>,
}

impl Paused {
    /// Starts it and waits for as long as it can go on.
    async fn start(scenario: &Scenario, written: u64) -> Self {
        let (log, quick) = (watch::Sender::new(written), watch::Sender::new(u64::MAX / 2));
        let mut config = scenario.cluster();
        config.learner.logs = vec![quick.subscribe(), log.subscribe()];
        let seen = Arc::new(Mutex::new(vec![]));
        let (seeing, scenario) = (seen.clone(), scenario.clone());
        let running = tokio::spawn(async move {
            let watch = move |event: &Event, _: &_| seeing.lock().unwrap().push(event.clone());
            let ended = scenario.run_watched(config, Box::new(HashTrainer::new()), watch).await.0;
            drop(quick);
            ended
        });
        tokio::time::sleep(LONG).await;
        Self { log, seen, running }
    }

    /// The newest version, and how many checkpoints there have been.
    fn stands(&self) -> (u64, usize) {
        let seen = self.seen.lock().unwrap();
        let version = |event: &Event| if let Event::Step(report) = event { Some(report.version.0) } else { None };
        let checkpoints = seen.iter().filter(|event| matches!(event, Event::Checkpoint { .. })).count();
        (seen.iter().filter_map(version).max().unwrap_or(0), checkpoints)
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_behind_makes_the_learner_pause_and_then_it_goes_on_by_itself() {
    let mut scenario = Scenario::new(1, 2);
    scenario.total_batches = 20;
    // Steps and the evaluations of every third version.
    let paused = Paused::start(&scenario, 2).await;
    assert_eq!(paused.stands().0, 6, "two written, six waiting");
    paused.log.send_replace(3);
    tokio::time::sleep(LONG).await;
    assert_eq!(paused.stands().0, 6, "four may wait");
    paused.log.send_replace(4);
    tokio::time::sleep(LONG).await;
    assert_eq!(paused.stands().0, 7);
    paused.log.send_replace(u64::MAX / 2);
    assert_eq!(paused.running.await.unwrap().unwrap().digest, scenario.oracle());
}

#[tokio::test(start_paused = true)]
async fn no_version_is_checkpointed_before_the_logs_have_told_what_led_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::new(1, 2);
    scenario.checkpoints = Some(folder.path().to_owned());
    let paused = Paused::start(&scenario, 1).await;
    assert_eq!(paused.stands(), (2, 0));
    paused.log.send_replace(2);
    tokio::time::sleep(LONG).await;
    // Version 4 is due when the evaluation of version 3 and two more steps have been told.
    assert_eq!(paused.stands(), (4, 1));
    paused.log.send_replace(u64::MAX / 2);
    assert_eq!(paused.running.await.unwrap().unwrap().digest, scenario.oracle());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_has_failed_ends_the_learner_without_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::new(1, 2);
    scenario.checkpoints = Some(folder.path().to_owned());
    let Paused { log, running, .. } = Paused::start(&scenario, 1).await;
    drop(log);
    let ended = running.await.unwrap();
    let Err(ClusterError::Learner(LearnerError::Step(StepError::Unlogged { version }))) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!((version.0, checkpoint::latest(folder.path()).unwrap()), (2, None));
}
