//! A run with its settings, executed by a cluster or, as an oracle, by a loop.

use crate::{
    hash_policy::{self, HashSampler, HashTrainer},
    network,
};
use riser::cluster::{self, ClusterConfig, ClusterError, Parts};
use riser_coordinator::{
    prompts::{PromptSource, SourceError},
    schedule::ScheduleConfig,
};
use riser_core::{
    bounded::Bounded,
    digest::Digest,
    ids::{GroupId, Incarnation, PolicyVersion, RowId, WorkerId},
    lease::{Prompt, SampleRequest},
    lockstep::Lockstep,
    logprob_space::LogprobSpace,
    pacing::Pacing,
    prefix_tree::PrefixTree,
    prompt_order::PromptOrder,
    random::Seed,
    snapshot::{PolicySnapshot, TensorDtype},
};
use riser_learner::{Event, LearnerConfig, Outcome, Trainer, config::CheckpointConfig};
use riser_proto::call::Patience;
use riser_rollout_worker::{Sampler, SamplerError, SamplerFactory, WorkerConfig};
use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Digests of the trainer's policies by version, each with the digest of what workers get.
pub(crate) type Versions = Vec<(Digest, Digest)>;

pub(crate) const NUM_ROWS: u32 = 23;
pub(crate) const SEED: Seed = Seed(11);

/// A small run: 7 batches of 10 groups, 4 groups to a lease.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) lag: u32,
    /// Bound of a run in bounded mode; `None` is lockstep.
    pub(crate) max_staleness: Option<u32>,
    pub(crate) num_workers: usize,
    pub(crate) total_batches: u64,
    pub(crate) max_restarts: usize,
    pub(crate) checkpoints: Option<PathBuf>,
    pub(crate) samplers: Arc<dyn SamplerFactory>,
    pub(crate) trainer: Option<HashTrainer>,
    pub(crate) served_dtype: TensorDtype,
}

pub(crate) fn hash_samplers(tree: Arc<PrefixTree>) -> Result<Box<dyn Sampler>, SamplerError> {
    Ok(Box::new(HashSampler::new(tree)))
}

struct Rows;

impl PromptSource for Rows {
    fn num_rows(&self) -> NonZeroU32 {
        NUM_ROWS.try_into().unwrap()
    }

    fn prompt(&self, row: RowId) -> Result<Prompt, SourceError> {
        Ok(hash_policy::prompt(row.0))
    }
}

pub(crate) fn prompts() -> Box<dyn PromptSource> {
    Box::new(Rows)
}

impl Scenario {
    pub(crate) fn new(lag: u32, num_workers: usize) -> Self {
        Self {
            lag,
            max_staleness: None,
            num_workers,
            total_batches: 7,
            max_restarts: 0,
            checkpoints: None,
            samplers: Arc::new(hash_samplers),
            trainer: None,
            served_dtype: TensorDtype::F32,
        }
    }

    pub(crate) fn lockstep(&self) -> Lockstep {
        Lockstep { groups_per_batch: 10.try_into().unwrap(), lag: self.lag }
    }

    pub(crate) fn pacing(&self) -> Pacing {
        match self.max_staleness {
            Some(max_staleness) => Pacing::Bounded(Bounded { groups_per_batch: 10.try_into().unwrap(), max_staleness }),
            None => Pacing::Lockstep(self.lockstep()),
        }
    }

    pub(crate) fn schedule(&self, incarnation: u32) -> ScheduleConfig {
        ScheduleConfig {
            pacing: self.pacing(),
            groups_per_lease: 4.try_into().unwrap(),
            total_batches: self.total_batches,
            incarnation: Incarnation(incarnation),
            lease_timeout: Duration::from_secs(30),
            lease_lifetime: Duration::from_secs(600),
            max_waiting: 8,
        }
    }

    pub(crate) fn learner(&self) -> LearnerConfig {
        LearnerConfig {
            checkpoints: self.checkpoints.clone().map(|folder| CheckpointConfig { folder, every: 2, keep: 2 }),
            evaluate_every: 3,
            served_dtype: self.served_dtype,
            patience: patience(),
            ..LearnerConfig::new(self.pacing(), LogprobSpace::Catalog, self.total_batches)
        }
    }

    pub(crate) fn cluster(&self) -> ClusterConfig {
        ClusterConfig {
            learner: self.learner(),
            worker: WorkerConfig { patience: patience(), submit_window: 3, ..WorkerConfig::new(WorkerId(0)) },
            num_workers: self.num_workers.try_into().unwrap(),
            max_restarts: self.max_restarts,
            groups_per_lease: 4.try_into().unwrap(),
            lease_timeout: Duration::from_secs(30),
            lease_lifetime: Duration::from_secs(600),
            seed: SEED,
        }
    }

    pub(crate) fn parts(&self, trainer: Box<dyn Trainer>) -> (Parts, mpsc::Receiver<Event>) {
        let (events, observed) = mpsc::channel(8);
        let samplers = self.samplers.clone();
        (Parts { prompts: prompts(), tree: hash_policy::tree(), changes: None, trainer, samplers, events }, observed)
    }

    /// Runs a cluster in memory; `watch` sees every event and may end the run.
    pub(crate) async fn run_watched(
        &self,
        config: ClusterConfig,
        trainer: Box<dyn Trainer>,
        watch: impl Fn(&Event, &CancellationToken) + Send + 'static,
    ) -> (Result<Outcome, ClusterError>, Vec<Event>) {
        let (parts, mut observed) = self.parts(trainer);
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let watcher = tokio::spawn(async move {
            let mut events = vec![];
            while let Some(event) = observed.recv().await {
                watch(&event, &token);
                events.push(event);
            }
            events
        });
        let outcome = cluster::run_at(config, parts, network::place(), network::place(), shutdown).await;
        (outcome, watcher.await.unwrap())
    }

    /// Runs a cluster in memory.
    pub(crate) async fn run(&self) -> (Result<Outcome, ClusterError>, Vec<Event>) {
        let trainer = self.trainer.clone().unwrap_or_else(HashTrainer::new);
        self.run_watched(self.cluster(), Box::new(trainer), |_, _| {}).await
    }

    /// What the run computes, by definition: a loop without roles, leases or messages.
    pub(crate) fn oracle(&self) -> Digest {
        self.versions().last().unwrap().0
    }

    /// The same for every version of the run.
    pub(crate) fn versions(&self) -> Versions {
        self.versions_with(|_| 0)
    }

    /// The same if batches are made with these catalogs.
    pub(crate) fn versions_with(&self, catalog_of: impl Fn(u64) -> u32) -> Versions {
        let lockstep = self.lockstep();
        let mut order = PromptOrder::new(SEED, NUM_ROWS.try_into().unwrap());
        let mut trainer = HashTrainer::new();
        let serve = |policy: &PolicySnapshot| policy.served_as(self.served_dtype).unwrap();
        let policy = trainer.snapshot(PolicyVersion(0)).unwrap();
        let mut published: Vec<PolicySnapshot> = vec![serve(&policy)];
        let mut versions = vec![(policy.digest(), published[0].digest())];
        for batch in 0..self.total_batches {
            let version = batch.saturating_sub(u64::from(self.lag)) as usize;
            let mut sampler = HashSampler::new(hash_policy::tree_of(catalog_of(batch)));
            sampler.load(&published[version]).unwrap();
            let requests: Vec<SampleRequest> = lockstep
                .groups_of(batch)
                .map(|group| {
                    let row = order.row(GroupId(group));
                    SampleRequest { id: GroupId(group), row, prompt: hash_policy::prompt(row.0) }
                })
                .collect();
            let groups: Vec<_> = requests
                .chunks(4)
                .flat_map(|lease| sampler.sample(PolicyVersion(version as u64), lease).unwrap())
                .collect();
            trainer.step(PolicyVersion(batch), &groups).unwrap();
            let policy = trainer.snapshot(PolicyVersion(batch + 1)).unwrap();
            let served = serve(&policy);
            versions.push((policy.digest(), served.digest()));
            published.push(served);
        }
        versions
    }
}

/// Gives up early, so that a test that goes wrong ends.
pub(crate) fn patience() -> Patience {
    Patience { attempts: 8, ..Patience::default() }
}
