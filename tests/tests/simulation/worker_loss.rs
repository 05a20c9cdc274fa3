//! Runs that lose workers, and runs that end because of it.

use crate::{
    hash_policy::{self, HashSampler, HashTrainer},
    network,
    scenario::{self, Scenario},
};
use riser::cluster::ClusterError;
use riser_core::{
    group::RolloutGroup,
    ids::{PolicyVersion, WorkerId},
    lease::SampleRequest,
    prefix_tree::PrefixTree,
    snapshot::PolicySnapshot,
};
use riser_learner::{LearnerError, Metrics, Trainer, steps::StepError};
use riser_rollout_worker::{Sampler, SamplerError, WorkerConfig, WorkerError};
use riser_store::Contents;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Does something else, once or always, before it samples a certain group.
struct Trap<F> {
    inner: HashSampler,
    group: u64,
    spring: F,
}

impl<F: FnMut(&mut Vec<RolloutGroup>) -> Result<(), Failure> + Send + 'static> Sampler for Trap<F> {
    fn load(&mut self, snapshot: &PolicySnapshot) -> Result<(), Failure> {
        self.inner.load(snapshot)
    }

    fn sample(&mut self, version: PolicyVersion, requests: &[SampleRequest]) -> Result<Vec<RolloutGroup>, Failure> {
        let mut groups = self.inner.sample(version, requests)?;
        if requests.iter().any(|request| request.id.0 == self.group) {
            (self.spring)(&mut groups)?;
        }
        Ok(groups)
    }
}

/// Samplers that share one trap at `group`.
fn trapped<F>(group: u64, spring: F) -> impl Fn(Arc<PrefixTree>) -> Result<Box<dyn Sampler>, SamplerError>
where
    F: FnMut(&mut Vec<RolloutGroup>) -> Result<(), Failure> + Clone + Send + Sync + 'static,
{
    move |tree| Ok(Box::new(Trap { inner: HashSampler::new(tree), group, spring: spring.clone() }))
}

#[tokio::test(start_paused = true)]
async fn a_sampler_that_panics_costs_a_restart_and_changes_nothing() {
    for num_workers in [1, 3] {
        let left = Arc::new(AtomicU32::new(2));
        let spring = move |_: &mut Vec<RolloutGroup>| {
            let fires = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            assert!(!fires, "trap at group 33");
            Ok(())
        };
        let mut scenario = Scenario::new(1, num_workers);
        scenario.samplers = Arc::new(trapped(33, spring));
        scenario.max_restarts = 2;
        let (outcome, _) = scenario.run().await;
        assert_eq!(outcome.unwrap().digest, scenario.oracle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_without_workers_ends_with_the_reason_of_the_last_one_and_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::new(0, 2);
    scenario.samplers = Arc::new(trapped(33, |_| Err("out of memory".into())));
    scenario.max_restarts = 3;
    scenario.checkpoints = Some(folder.path().to_owned());
    let (outcome, _) = scenario.run().await;
    let Err(ClusterError::WorkersLost { restarts: 3, reason }) = outcome else { panic!("{outcome:?}") };
    let WorkerError::Sample { first, version, source } = *reason else { panic!("{reason}") };
    assert_eq!((first.0, version.0, source.to_string()), (30, 3, "out of memory".to_owned()));
    let checkpoint = riser_learner::checkpoint::latest(folder.path()).unwrap().unwrap();
    assert_eq!(riser_learner::checkpoint::open(&checkpoint).unwrap().manifest.version, PolicyVersion(3));
}

#[tokio::test(start_paused = true)]
async fn a_group_outside_the_catalog_ends_the_run_with_the_learners_reason() {
    let mut scenario = Scenario::new(0, 1);
    scenario.samplers = Arc::new(trapped(12, |groups| {
        groups[2].subtree.token[0] = 99;
        Ok(())
    }));
    let (outcome, _) = scenario.run().await;
    let Err(ClusterError::WorkersLost { restarts: 0, reason }) = outcome else { panic!("{outcome:?}") };
    let WorkerError::Rejected { group: 12, reason } = *reason else { panic!("{reason}") };
    assert_eq!(reason, "entry 0: token 99 leaves the catalog at node 0");
}

/// Trains like [`HashTrainer`] until a certain version.
struct Broken(HashTrainer);

impl Trainer for Broken {
    fn step(&mut self, version: PolicyVersion, batch: &[RolloutGroup]) -> Result<Metrics, Failure> {
        if version.0 == 4 {
            return Err("gradient is not finite".into());
        }
        self.0.step(version, batch)
    }

    fn snapshot(&self, version: PolicyVersion) -> Result<PolicySnapshot, Failure> {
        self.0.snapshot(version)
    }

    fn evaluate(&mut self, version: PolicyVersion) -> Result<Metrics, Failure> {
        self.0.evaluate(version)
    }

    fn state(&self) -> Result<Contents, Failure> {
        self.0.state()
    }
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_fails_ends_the_run_with_its_reason() {
    let scenario = Scenario::new(1, 2);
    let (outcome, _) = scenario.run_watched(scenario.cluster(), Box::new(Broken(HashTrainer::new())), |_, _| {}).await;
    let Err(ClusterError::Learner(LearnerError::Step(StepError::Trainer { version, source }))) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((version.0, source.to_string()), (4, "gradient is not finite".to_owned()));
}

/// The worker is aborted in the middle of sampling: it gives nothing back and says nothing.
#[tokio::test(start_paused = true)]
async fn the_work_of_a_worker_that_vanishes_is_done_by_another_long_before_its_lease_expires() {
    let scenario = Scenario::new(1, 1);
    let config = scenario.cluster();
    let (coordinator, learner) = (network::place(), network::place());
    let (stop, tree) = (CancellationToken::new(), hash_policy::tree());
    let schedule = scenario.schedule(1);
    let (to_coordinator, to_learner) = (coordinator.connect.clone(), learner.connect.clone());
    let (catalog, stopped) = (tree.clone(), stop.clone());
    let coordinator = tokio::spawn(async move {
        let prompts = scenario::prompts();
        let log = mpsc::channel(1).0;
        riser_coordinator::run(schedule, scenario::SEED, prompts, &catalog, coordinator.incoming, log, stopped).await
    });
    let (events, _) = mpsc::channel(1);
    let trainer = Box::new(HashTrainer::new());
    let learner =
        riser_learner::run(config.learner, trainer, tree, to_coordinator(), learner.incoming, events, stop.clone());
    let learner = tokio::spawn(learner);

    let worker = |id, samplers| {
        let config = WorkerConfig { id: WorkerId(id), ..config.worker };
        tokio::spawn(riser_rollout_worker::run(config, to_coordinator(), to_learner(), samplers, stop.clone()))
    };
    let (sampling, never) = (Arc::new(Notify::new()), Arc::new(std::sync::Barrier::new(2)));
    let (here, release) = (sampling.clone(), never.clone());
    let stuck = trapped(20, move |_| {
        here.notify_one();
        release.wait();
        Ok(())
    });
    let first = worker(1, Arc::new(stuck));
    sampling.notified().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    // Simulated time stands still while a blocking thread is busy, so the dead worker's thread has to be let go.
    never.wait();

    let second = worker(2, Arc::new(scenario::hash_samplers));
    assert_eq!(learner.await.unwrap().unwrap().digest, scenario.oracle());
    second.await.unwrap().unwrap();
    stop.cancel();
    let counts = coordinator.await.unwrap().unwrap();
    assert_eq!((counts.expired, counts.doubled), (0, 1), "{counts:?}");
    // The dead worker's holding ends with the second one's completion, or with the learner's report if that comes first.
    assert_eq!(counts.granted, counts.completed + counts.overtaken + counts.outrun, "{counts:?}");
}
