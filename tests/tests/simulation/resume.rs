//! Runs that are interrupted and go on from their checkpoint.

use crate::{hash_policy::HashTrainer, scenario::Scenario};
use riser::cluster::{ClusterConfig, ClusterError};
use riser_core::ids::PolicyVersion;
use riser_learner::{Event, LearnerError, checkpoint, steps::StepError};
use std::path::Path;

fn resumed(scenario: &Scenario, folder: &Path) -> (ClusterConfig, HashTrainer, PolicyVersion) {
    let checkpoint = checkpoint::open(&checkpoint::latest(folder).unwrap().unwrap()).unwrap();
    let mut config = scenario.cluster();
    config.learner.start_version = checkpoint.manifest.version;
    config.learner.start_digest = Some(checkpoint.manifest.policy);
    config.learner.retained = checkpoint.retained;
    (config, HashTrainer::open(&checkpoint.folder), checkpoint.manifest.version)
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_resumes_to_the_policy_of_one_that_was_not() {
    for lag in [0, 1, 2] {
        for interrupted_at in [1, 3, 6] {
            let folder = tempfile::tempdir().unwrap();
            let mut scenario = Scenario::new(lag, 3);
            scenario.checkpoints = Some(folder.path().to_owned());
            let (outcome, _) = scenario
                .run_watched(scenario.cluster(), Box::new(HashTrainer::new()), move |event, shutdown| {
                    if matches!(event, Event::Step(report) if report.version.0 == interrupted_at) {
                        shutdown.cancel();
                    }
                })
                .await;
            let outcome = outcome.unwrap();
            assert!(outcome.version.0 >= interrupted_at);

            let (config, trainer, version) = resumed(&scenario, folder.path());
            assert_eq!(version, outcome.version);
            let (outcome, events) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
            assert_eq!(outcome.unwrap().digest, scenario.oracle(), "lag {lag}, interrupted at {interrupted_at}");
            let first = events.iter().find_map(|event| match event {
                Event::Step(report) => Some(report.version),
                _ => None,
            });
            assert!(first.is_none_or(|first| first == version.next()), "versions grow by one across a restart");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_checkpoints_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::new(1, 2);
    scenario.checkpoints = Some(folder.path().to_owned());
    scenario.run().await.0.unwrap();
    let all = checkpoint::Folder::new(folder.path()).versions().unwrap();
    assert_eq!((all.len(), all.last()), (2, Some(&7)));
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_is_not_the_checkpoints_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::new(0, 1);
    scenario.total_batches = 2;
    scenario.checkpoints = Some(folder.path().to_owned());
    scenario.run().await.0.unwrap();
    scenario.total_batches = 4;
    let (config, _, version) = resumed(&scenario, folder.path());
    let (outcome, _) = scenario.run_watched(config, Box::new(HashTrainer::new()), |_, _| {}).await;
    let Err(ClusterError::Learner(LearnerError::Step(StepError::Resumed { version: refused, .. }))) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(refused, version);
}

#[tokio::test(start_paused = true)]
async fn a_lag_that_the_checkpoint_has_no_policies_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::new(1, 1);
    scenario.total_batches = 4;
    scenario.checkpoints = Some(folder.path().to_owned());
    scenario.run().await.0.unwrap();
    (scenario.total_batches, scenario.lag) = (6, 3);
    let (config, trainer, _) = resumed(&scenario, folder.path());
    let (outcome, _) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
    let message = outcome.unwrap_err().to_string();
    assert_eq!(message, "learner ended: cannot resume at version 4 with lag 3: policy version 1 was not retained");
}
