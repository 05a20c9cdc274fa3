//! The role as a whole: its actors, and the reason it ends.

use crate::{
    WorkerConfig, WorkerError, catalog,
    lease_loop::{LeaseLoop, Summary},
    policy_subscriber::PolicySubscriber,
    sampler::SamplerFactory,
};
use riser_core::delta::offer::PolicyOffer;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Where a worker stands in the relay tree.
#[derive(Debug, Clone, Default)]
pub struct RelayPlace {
    /// The worker that policies are taken from; `None` takes them from the learner.
    pub parent: Option<Channel>,
    /// The shelf, which may outlive the worker's restarts; [`crate::relay::serve`] hands on what it holds.
    pub shelf: watch::Sender<PolicyOffer>,
}

/// Runs the role until the run is over or `shutdown`, with policies from the learner.
///
/// A shutdown drops the lease in hand: it expires, or dies with the coordinator.
///
/// # Errors
/// [`WorkerError`]; nothing is lost with a worker, it can be started again.
pub async fn run(
    config: WorkerConfig,
    coordinator: Channel,
    learner: Channel,
    samplers: Arc<dyn SamplerFactory>,
    shutdown: CancellationToken,
) -> Result<Summary, WorkerError> {
    run_at(RelayPlace::default(), config, coordinator, learner, samplers, shutdown).await
}

/// Runs the role at a place in the relay tree; see [`run`].
///
/// # Errors
/// [`WorkerError`].
pub async fn run_at(
    place: RelayPlace,
    config: WorkerConfig,
    coordinator: Channel,
    learner: Channel,
    samplers: Arc<dyn SamplerFactory>,
    shutdown: CancellationToken,
) -> Result<Summary, WorkerError> {
    let mut summary = Summary::default();
    let work = Box::pin(work(place, config, coordinator, learner, samplers, &mut summary));
    shutdown.run_until_cancelled(work).await.unwrap_or(Ok(()))?;
    tracing::info!(worker = config.id.0, leases = summary.leases, groups = summary.groups, "worker stopped");
    Ok(summary)
}

async fn work(
    place: RelayPlace,
    config: WorkerConfig,
    coordinator: Channel,
    learner: Channel,
    samplers: Arc<dyn SamplerFactory>,
    summary: &mut Summary,
) -> Result<(), WorkerError> {
    let tree = Arc::new(catalog::fetch(&config, coordinator.clone()).await?);
    let made = tokio::task::spawn_blocking(move || samplers.sampler(tree));
    let sampler = made.await.map_err(WorkerError::panicked)?.map_err(WorkerError::Factory)?;
    let RelayPlace { parent, shelf } = place;
    let subscriber = PolicySubscriber::new(config, learner.clone(), parent, shelf.clone());
    let shelf = shelf.subscribe();
    let lease_loop = LeaseLoop::new(config, coordinator, learner, shelf, sampler);
    tokio::select! {
        ended = lease_loop.run(summary) => ended,
        failed = subscriber.run() => match failed {
            Err(error) => Err(error),
        },
    }
}
