//! The role as a whole: its actors, and the reason it ends.

use crate::{
    WorkerConfig, WorkerError, catalog,
    lease_loop::{LeaseLoop, Summary},
    policy_shelf::PolicyShelf,
    policy_subscriber,
    sampler::SamplerFactory,
};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Runs the role until the run is over or `shutdown`.
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
    let mut summary = Summary::default();
    let work = Box::pin(work(config, coordinator, learner, samplers, &mut summary));
    shutdown.run_until_cancelled(work).await.unwrap_or(Ok(()))?;
    tracing::info!(worker = config.id.0, leases = summary.leases, groups = summary.groups, "worker stopped");
    Ok(summary)
}

async fn work(
    config: WorkerConfig,
    coordinator: Channel,
    learner: Channel,
    samplers: Arc<dyn SamplerFactory>,
    summary: &mut Summary,
) -> Result<(), WorkerError> {
    let tree = Arc::new(catalog::fetch(&config, coordinator.clone()).await?);
    let made = tokio::task::spawn_blocking(move || samplers.sampler(tree));
    let sampler = made.await.map_err(WorkerError::panicked)?.map_err(WorkerError::Factory)?;
    let (sender, shelf) = watch::channel(PolicyShelf::default());
    let lease_loop = LeaseLoop::new(config, coordinator, learner.clone(), shelf, sampler);
    tokio::select! {
        ended = lease_loop.run(summary) => ended,
        failed = policy_subscriber::run(config, learner, sender) => match failed {
            Err(error) => Err(error),
        },
    }
}
