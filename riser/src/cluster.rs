//! The embedded cluster: the three roles in one process, speaking real gRPC.
//!
//! ```text
//!            coordinator <--advance-- learner
//!                 ^                     ^ |
//!          leases |        groups       | | policies
//!                 +---- worker 0..N ----+ v
//! ```
//!
//! The roles are the ones that run as separate processes elsewhere; only the supervision is of this process. A worker that
//! fails is started again, within a budget for the whole run: whatever it held is leased to someone else, so its death
//! changes no result. The learner and the coordinator are not started again; the run ends with their reason, after a last
//! checkpoint where there is still a learner to write one.

mod place;
mod supervision;

pub use place::{Place, PlaceError};

use riser_coordinator::{
    actor::CoordinatorError,
    catalogs::{CatalogSource, OpenedCatalog, RunData},
    prompts::PromptSource,
    reception::Reception,
    schedule::ScheduleConfig,
};
use riser_core::{prefix_tree::PrefixTree, random::Seed};
use riser_learner::{Event, LearnerConfig, LearnerError, Outcome, Trainer};
use riser_proto::catalog::CatalogFile;
use riser_rollout_worker::{SamplerFactory, WorkerConfig, WorkerError};
use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};
use supervision::Supervisor;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinError,
};
use tokio_stream::Stream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::server::Connected;

/// Settings of an embedded cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The learner, which also says what the run is.
    pub learner: LearnerConfig,
    /// Every worker; its id is replaced.
    pub worker: WorkerConfig,
    /// Workers of this process.
    pub num_workers: NonZeroUsize,
    /// Restarts of workers in the whole run.
    pub max_restarts: usize,
    /// Most groups that are computed together. Part of what a run computes.
    pub groups_per_lease: NonZeroU32,
    /// How long a silent worker keeps its lease.
    pub lease_timeout: Duration,
    /// How long a stuck worker keeps its lease.
    pub lease_lifetime: Duration,
    /// The seed of the run, which orders the prompts.
    pub seed: Seed,
}

impl ClusterConfig {
    fn schedule(&self) -> ScheduleConfig {
        ScheduleConfig {
            pacing: self.learner.pacing,
            groups_per_lease: self.groups_per_lease,
            total_batches: self.learner.total_batches,
            incarnation: self.learner.incarnation,
            lease_timeout: self.lease_timeout,
            lease_lifetime: self.lease_lifetime,
            max_waiting: 4 * self.num_workers.get(),
        }
    }
}

/// What the roles work on and with.
pub struct Parts {
    /// The rows that prompts are drawn from.
    pub prompts: Box<dyn PromptSource>,
    /// The catalog that the run begins with.
    pub tree: Arc<PrefixTree>,
    /// Where catalogs come from that took over before the run was interrupted.
    pub changes: Option<Arc<dyn CatalogSource>>,
    /// The learner's model.
    pub trainer: Box<dyn Trainer>,
    /// Maker of the workers' models.
    pub samplers: Arc<dyn SamplerFactory>,
    /// Whoever watches the run; waited for when full.
    pub events: mpsc::Sender<Event>,
}

/// Why a run ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No address to listen on.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The learner failed.
    #[error("learner ended: {0}")]
    Learner(#[source] LearnerError),
    /// The coordinator failed.
    #[error("coordinator ended: {0}")]
    Coordinator(#[source] CoordinatorError),
    /// No worker is left.
    #[error("no worker is left after {restarts} restarts; the last one ended: {reason}")]
    WorkersLost {
        /// Restarts that were spent.
        restarts: usize,
        /// Why the last worker ended.
        reason: Box<WorkerError>,
    },
    /// A role panicked.
    #[error("{role} ended: {source}")]
    Panicked {
        /// Which one.
        role: &'static str,
        /// What it died of.
        source: JoinError,
    },
}

/// Runs a cluster over the loopback interface until every batch is trained or `shutdown`.
///
/// # Errors
/// [`ClusterError`] says what ended first.
pub async fn run(config: ClusterConfig, parts: Parts, shutdown: CancellationToken) -> Result<Outcome, ClusterError> {
    run_at(config, parts, Place::loopback()?, Place::loopback()?, shutdown).await
}

/// Runs a cluster whose servers listen at the given places.
///
/// # Errors
/// [`ClusterError`] says what ended first.
pub async fn run_at<I, IO, IE>(
    config: ClusterConfig,
    parts: Parts,
    coordinator: Place<I>,
    learner: Place<I>,
    shutdown: CancellationToken,
) -> Result<Outcome, ClusterError>
where
    I: Stream<Item = Result<IO, IE>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    IE: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    // Two stages, as in the learner: `winding_down` lets it finish its step, `stop` ends those that serve it.
    let winding_down = shutdown.child_token();
    let stop = CancellationToken::new();
    let (schedule, seed) = (config.schedule(), config.seed);
    let Parts { prompts, tree, changes, trainer, samplers, events } = parts;

    let supervisor = Supervisor {
        worker: config.worker,
        max_restarts: config.max_restarts,
        coordinator: coordinator.connect.clone(),
        learner: learner.connect.clone(),
        samplers,
        stop: stop.clone(),
    };
    let coordinator_channel = (coordinator.connect)();
    let first = OpenedCatalog { file: CatalogFile::new(&tree), prompts };
    let (data, reception) = (RunData { first, changes }, Reception::default());
    let stop_coordinator = stop.clone();
    // One channel for both roles, so that causes are written down before their consequences.
    let log = config.learner.log.clone().unwrap_or_else(|| mpsc::channel(1).0);
    let mut coordinator = spawn(async move {
        riser_coordinator::serve(schedule, seed, data, reception, coordinator.incoming, log, stop_coordinator).await
    });
    let mut learner = spawn(riser_learner::run(
        config.learner,
        trainer,
        tree,
        coordinator_channel,
        learner.incoming,
        events,
        winding_down.clone(),
    ));
    let mut workers = spawn(supervisor.run(config.num_workers));

    let mut first_failure = None;
    let (mut coordinator_ended, mut workers_ended) = (false, false);
    let outcome = loop {
        let failure = tokio::select! {
            outcome = &mut learner => break outcome,
            ended = &mut coordinator, if !coordinator_ended => {
                coordinator_ended = true;
                flatten("coordinator", ended, ClusterError::Coordinator).err()
            }
            ended = &mut workers, if !workers_ended => {
                workers_ended = true;
                flatten("supervisor of the workers", ended, |lost| lost).err()
            }
        };
        if let Some(failure) = failure {
            tracing::error!(%failure, "run cannot go on");
            winding_down.cancel();
            first_failure.get_or_insert(failure);
        }
    };
    stop.cancel();
    if !workers_ended {
        flatten("supervisor of the workers", workers.await, |lost| lost).ok();
    }
    if !coordinator_ended {
        let failure = flatten("coordinator", coordinator.await, ClusterError::Coordinator).err();
        first_failure = first_failure.or(failure);
    }
    match (flatten("learner", outcome, ClusterError::Learner), first_failure) {
        // Everything is trained and saved; what fails afterwards takes nothing away.
        (Ok(outcome), _) if outcome.finished => Ok(outcome),
        // What failed first is the reason; what the learner says afterwards is a consequence.
        (_, Some(failure)) => Err(failure),
        (outcome, None) => outcome,
    }
}

fn spawn<T: Send + 'static>(role: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(role))
}

fn flatten<T, E>(
    role: &'static str,
    ended: Result<Result<T, E>, JoinError>,
    failed: impl FnOnce(E) -> ClusterError,
) -> Result<T, ClusterError> {
    match ended {
        Ok(result) => result.map_err(failed),
        Err(source) => Err(ClusterError::Panicked { role, source }),
    }
}
