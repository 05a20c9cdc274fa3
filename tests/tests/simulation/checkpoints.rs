//! Checkpoints that are written while training goes on, on disks and in stores that misbehave.

use crate::{hash_policy::HashTrainer, scenario::Scenario};
use object_store::{
    memory::InMemory,
    path::Path as ObjectPath,
    throttle::{ThrottleConfig, ThrottledStore},
};
use riser::cluster::{ClusterConfig, ClusterError};
use riser_core::ids::PolicyVersion;
use riser_learner::{
    Event, LearnerError,
    checkpoint::{self, CheckpointError},
    config::DurableConfig,
    recovery::{self, Recovery},
    steps::StepError,
};
use riser_store::{Disk, DurableStore, FileSystem, FolderError, StoreError, durable::Transfer};
use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};
use tempfile::TempDir;

/// The disk, with a rule that has a say in every file that is written.
struct Ruled<F>(F);

impl<F> fmt::Debug for Ruled<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a disk with a rule")
    }
}

impl<F: Fn(&Path) -> io::Result<()> + Send + Sync> FileSystem for Ruled<F> {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        Disk.create_folder(folder)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        (self.0)(file)?;
        Disk.write(file, bytes)
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        Disk.sync_file(file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        Disk.sync_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        Disk.remove_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        Disk.list(folder)
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        Disk.read(file)
    }
}

/// A disk that has no room for the checkpoints of some versions.
fn full_at(full: &'static [u64]) -> Arc<dyn FileSystem> {
    Arc::new(Ruled(move |file: &Path| {
        let is_of = |version: &u64| file.display().to_string().contains(&format!("step-{version:08}"));
        match full.iter().any(is_of) && file.ends_with("checkpoint.json") {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }))
}

fn scenario(folder: &TempDir) -> Scenario {
    let mut scenario = Scenario::new(1, 2);
    scenario.checkpoints = Some(folder.path().to_owned());
    scenario
}

/// Versions of the events that `pick` picks.
fn versions(events: &[Event], pick: fn(&Event) -> Option<PolicyVersion>) -> Vec<u64> {
    events.iter().filter_map(|event| Some(pick(event)?.0)).collect()
}

fn written(event: &Event) -> Option<PolicyVersion> {
    if let Event::Checkpoint { version, .. } = event { Some(*version) } else { None }
}

fn failed(event: &Event) -> Option<PolicyVersion> {
    if let Event::CheckpointFailed { version, .. } = event { Some(*version) } else { None }
}

fn stored(event: &Event) -> Option<PolicyVersion> {
    if let Event::Stored { version } = event { Some(*version) } else { None }
}

/// Goes on from what recovery finds.
async fn resumed(scenario: &Scenario, config: &mut ClusterConfig) -> HashTrainer {
    let folder = scenario.checkpoints.as_ref().unwrap();
    let recovered = recovery::recover(folder, config.learner.durable.as_ref()).await.unwrap();
    let Recovery { checkpoint: Some(checkpoint), skipped, .. } = recovered else { panic!("nothing to go on from") };
    config.learner.start_version = checkpoint.manifest.version;
    config.learner.start_digest = Some(checkpoint.manifest.policy);
    config.learner.retained = checkpoint.retained;
    config.learner.skipped = skipped;
    HashTrainer::open(&checkpoint.folder)
}

/// The disk holds the checkpoint of version 2 until the last step has been taken.
#[tokio::test(start_paused = true)]
async fn training_goes_on_while_a_checkpoint_is_written_and_a_newer_one_takes_the_place_of_one_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = scenario(&folder);
    let gate = Arc::new((Mutex::new(true), Condvar::new()));
    let held = gate.clone();
    let mut config = scenario.cluster();
    config.learner.files = Arc::new(Ruled(move |_: &Path| {
        let closed = held.0.lock().unwrap();
        drop(held.1.wait_while(closed, |closed| *closed).unwrap());
        Ok(())
    }));
    let watch = move |event: &Event, _: &_| {
        if matches!(event, Event::Step(report) if report.version.0 == 7) {
            *gate.0.lock().unwrap() = false;
            gate.1.notify_all();
        }
    };
    let (outcome, events) = scenario.run_watched(config, Box::new(HashTrainer::new()), watch).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
    let written = versions(&events, written);
    // Version 6 may have begun before version 7 came; version 4 had been overtaken by then.
    assert!(written == [2, 7] || written == [2, 6, 7], "{written:?}");
    assert!(matches!(events.last(), Some(Event::End(_))), "the last checkpoint is waited for");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_costs_checkpoints_and_once_there_is_room_they_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = scenario(&folder);
    let mut config = scenario.cluster();
    config.learner.files = full_at(&[2, 4, 6]);
    let (outcome, events) = scenario.run_watched(config, Box::new(HashTrainer::new()), |_, _| {}).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
    assert_eq!((versions(&events, failed)[0], versions(&events, written)), (2, vec![7]));
    let named = |event: &Event| match event {
        Event::CheckpointFailed { reason, .. } => reason.starts_with("no space is left to write "),
        _ => false,
    };
    assert!(events.iter().any(named));
}

/// Runs to its end at `total_batches`, where a checkpoint always is, from whatever is there.
async fn run_to(scenario: &mut Scenario, total_batches: u64) {
    scenario.total_batches = total_batches;
    let mut config = scenario.cluster();
    let empty = checkpoint::latest(scenario.checkpoints.as_ref().unwrap()).unwrap().is_none();
    let trainer = if empty { HashTrainer::new() } else { resumed(scenario, &mut config).await };
    scenario.run_watched(config, Box::new(trainer), |_, _| {}).await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_at_the_end_fails_the_run_and_leaves_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = scenario(&folder);
    run_to(&mut scenario, 5).await;
    scenario.total_batches = 7;
    let mut config = scenario.cluster();
    let trainer = resumed(&scenario, &mut config).await;
    config.learner.files = full_at(&[6, 7]);
    let (outcome, _) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
    let Err(ClusterError::Learner(LearnerError::Step(StepError::Checkpoint(CheckpointError::Folder(error))))) = outcome
    else {
        panic!("{outcome:?}");
    };
    assert!(matches!(error, FolderError::Full { .. }), "{error}");

    let mut config = scenario.cluster();
    let trainer = resumed(&scenario, &mut config).await;
    assert_eq!(config.learner.start_version, PolicyVersion(5));
    let (outcome, _) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_to_the_same_policy() {
    for lag in [0, 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut scenario = scenario(&folder);
        scenario.lag = lag;
        run_to(&mut scenario, 5).await;
        run_to(&mut scenario, 7).await;
        let newest = checkpoint::latest(folder.path()).unwrap().unwrap();
        std::fs::write(newest.join("state"), b"0123").unwrap();

        scenario.total_batches = 9;
        let mut config = scenario.cluster();
        let trainer = resumed(&scenario, &mut config).await;
        assert!(config.learner.start_version < PolicyVersion(7));
        let (outcome, events) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
        assert_eq!(outcome.unwrap().digest, scenario.oracle(), "lag {lag}");
        let Event::CheckpointSkipped { version: PolicyVersion(7), place, reason } = &events[0] else {
            panic!("{:?}", events[0]);
        };
        assert!(place.ends_with("damaged-step-00000007") && reason == "`state` has 4 bytes, expected 64", "{reason}");
    }
}

fn durable(objects: &Arc<InMemory>) -> Option<DurableConfig> {
    let store = DurableStore::on(objects.clone(), ObjectPath::from("run"), Transfer::default());
    Some(DurableConfig { store, keep: 2 })
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_folder_is_gone_goes_on_from_the_store_to_the_same_policy() {
    let (folder, objects) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    let mut scenario = scenario(&folder);
    scenario.total_batches = 5;
    let mut config = scenario.cluster();
    config.learner.durable = durable(&objects);
    let (outcome, events) = scenario.run_watched(config, Box::new(HashTrainer::new()), |_, _| {}).await;
    assert_eq!((outcome.unwrap().version, versions(&events, stored).last()), (PolicyVersion(5), Some(&5)));

    let elsewhere = tempfile::tempdir().unwrap();
    scenario.checkpoints = Some(elsewhere.path().to_owned());
    scenario.total_batches = 8;
    let mut config = scenario.cluster();
    config.learner.durable = durable(&objects);
    let trainer = resumed(&scenario, &mut config).await;
    assert_eq!(config.learner.start_version, PolicyVersion(5));
    let (outcome, _) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
    assert_eq!(outcome.unwrap().digest, scenario.oracle());
    let stored = durable(&objects).unwrap().store.versions().await.unwrap();
    assert_eq!((stored.len(), stored.last()), (2, Some(&8)));
}

/// Two learners that believe they are the same run and compute different things: here, with another lag.
#[tokio::test(start_paused = true)]
async fn of_two_learners_that_commit_different_policies_the_second_stops() {
    let objects = Arc::new(InMemory::new());
    let mut ends = vec![];
    for lag in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut scenario = scenario(&folder);
        scenario.lag = lag;
        let mut config = scenario.cluster();
        config.learner.durable = durable(&objects);
        ends.push(scenario.run_watched(config, Box::new(HashTrainer::new()), |_, _| {}).await.0);
    }
    assert!(ends[0].is_ok());
    let Err(ClusterError::Learner(LearnerError::Step(StepError::Checkpoint(CheckpointError::Store(error))))) = &ends[1]
    else {
        panic!("{:?}", ends[1]);
    };
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_version_is_evaluated_before_it_is_checkpointed() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = scenario(&folder);
    let (outcome, events) = scenario.run().await;
    outcome.unwrap();
    let at = |wanted: fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let evaluated = at(|event| matches!(event, Event::Evaluation { version: PolicyVersion(6), .. }));
    let checkpointed = at(|event| matches!(event, Event::Checkpoint { version: PolicyVersion(6 | 7), .. }));
    assert!(evaluated < checkpointed);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_never_got_to_the_store_is_brought_there_by_the_next_session() {
    let (folder, objects) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    let mut scenario = scenario(&folder);
    run_to(&mut scenario, 5).await;
    let mut config = scenario.cluster();
    config.learner.durable = durable(&objects);
    let trainer = resumed(&scenario, &mut config).await;
    let (outcome, events) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
    assert_eq!((outcome.unwrap().version, versions(&events, stored)), (PolicyVersion(5), vec![5]));
    assert_eq!(durable(&objects).unwrap().store.versions().await.unwrap(), [5]);
}

#[tokio::test(start_paused = true)]
async fn a_last_version_that_only_the_disk_has_is_shown_to_nobody_before_the_store_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = scenario(&folder);
    run_to(&mut scenario, 5).await;
    let mut config = scenario.cluster();
    let trainer = resumed(&scenario, &mut config).await;
    config.learner.durable = Some(hanging());
    let egress = config.learner.egress.clone();
    let (outcome, _) = scenario.run_watched(config, Box::new(trainer), |_, _| {}).await;
    assert!(outcome.is_err(), "{outcome:?}");
    let sent = egress.read();
    let sent: Vec<u64> = sent.versions.keys().map(|version| version.0).collect();
    assert_eq!(sent, [4], "workers get what new leases name, and no more");
}

/// A store that takes no object.
fn hanging() -> DurableConfig {
    let slow = ThrottleConfig { wait_put_per_call: Duration::from_secs(86_400), ..ThrottleConfig::default() };
    let objects = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    let store = DurableStore::on(objects, ObjectPath::from("run"), Transfer::default());
    DurableConfig { store, keep: 2 }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_delays_no_step_and_fails_the_run_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = scenario(&folder);
    let mut config = scenario.cluster();
    config.learner.durable = Some(hanging());
    let (outcome, events) = scenario.run_watched(config, Box::new(HashTrainer::new()), |_, _| {}).await;
    let Err(ClusterError::Learner(LearnerError::Step(StepError::Checkpoint(CheckpointError::Store(error))))) = outcome
    else {
        panic!("{outcome:?}");
    };
    assert!(matches!(error, StoreError::Deadline { .. }), "{error}");
    assert_eq!(versions(&events, written).last(), Some(&7), "the disk has it");
    let steps = events.iter().filter(|event| matches!(event, Event::Step(_))).count();
    let gave_up = events.iter().position(|event| matches!(event, Event::StoreFailed { .. })).unwrap();
    assert!(steps == 7 && events[..gave_up].iter().filter(|event| matches!(event, Event::Step(_))).count() == 7);
}
