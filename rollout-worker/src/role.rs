//! The role as a whole: its actors, and the reason it ends.

use crate::{
    WorkerConfig, WorkerError, catalog,
    lease_loop::{LeaseLoop, Summary},
    policy_shelf::PolicyShelf,
    policy_subscriber,
    sampler::SamplerFactory,
};
use riser_proto::transport::Channel;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How a worker is asked to end.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// Finish the lease in hand, or give it back where sampling has not begun, and take no other.
    pub drain: CancellationToken,
    /// Drop everything: the lease in hand expires, or dies with the coordinator.
    pub stop: CancellationToken,
}

/// Runs the role until the run is over or `shutdown`, which drops the lease in hand.
///
/// # Errors
/// [`WorkerError`]; nothing is lost with a worker, it can be started again.
pub async fn run(
    config: WorkerConfig,
    coordinator: impl Into<Channel>,
    learner: impl Into<Channel>,
    samplers: Arc<dyn SamplerFactory>,
    shutdown: CancellationToken,
) -> Result<Summary, WorkerError> {
    let ending = Ending { stop: shutdown, ..Ending::default() };
    run_until(config, coordinator.into(), learner.into(), samplers, ending).await
}

/// Runs the role until the run is over or it is asked to end.
///
/// # Errors
/// [`WorkerError`]; nothing is lost with a worker, it can be started again.
pub async fn run_until(
    config: WorkerConfig,
    coordinator: Channel,
    learner: Channel,
    samplers: Arc<dyn SamplerFactory>,
    ending: Ending,
) -> Result<Summary, WorkerError> {
    let mut summary = Summary::default();
    let Ending { drain, stop } = ending;
    let work = Box::pin(work(config, coordinator, learner, samplers, drain, &mut summary));
    stop.run_until_cancelled(work).await.unwrap_or(Ok(()))?;
    tracing::info!(worker = config.id.0, leases = summary.leases, groups = summary.groups, "worker stopped");
    Ok(summary)
}

async fn work(
    config: WorkerConfig,
    coordinator: Channel,
    learner: Channel,
    samplers: Arc<dyn SamplerFactory>,
    drain: CancellationToken,
    summary: &mut Summary,
) -> Result<(), WorkerError> {
    let fetched = drain.run_until_cancelled(catalog::fetch(&config, coordinator.clone())).await;
    let Some(tree) = fetched else { return Ok(()) };
    let tree = Arc::new(tree?);
    let made = tokio::task::spawn_blocking(move || samplers.sampler(tree));
    let sampler = made.await.map_err(WorkerError::panicked)?.map_err(WorkerError::Factory)?;
    let (sender, shelf) = watch::channel(PolicyShelf::default());
    let lease_loop = LeaseLoop::new(config, coordinator, learner.clone(), shelf, sampler, drain);
    tokio::select! {
        ended = lease_loop.run(summary) => ended,
        failed = policy_subscriber::run(config, learner, sender) => match failed {
            Err(error) => Err(error),
        },
    }
}
