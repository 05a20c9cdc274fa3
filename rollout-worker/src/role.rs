//! The role as a whole: its actors, and the reason it ends.

use crate::{
    WorkerConfig, WorkerError,
    activity::Activity,
    catalog::Sources,
    lease_loop::{LeaseLoop, Summary},
    policy_subscriber::PolicySubscriber,
    sampler::SamplerFactory,
    workbench::Workbench,
};
use riser_core::delta::offer::PolicyOffer;
use riser_proto::transport::Channel;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a worker finds where it is: its place in the relay tree, and what it need not ask the coordinator for.
#[derive(Debug, Clone, Default)]
pub struct WorkerPlace {
    /// The worker that policies are taken from; `None` takes them from the learner.
    pub parent: Option<Channel>,
    /// The shelf, which may outlive the worker's restarts; [`crate::relay::serve`] hands on what it holds.
    pub shelf: watch::Sender<PolicyOffer>,
    /// Where the catalog may be found besides with the coordinator.
    pub catalog: Sources,
}

/// How a worker is asked to end.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// Finish the lease in hand, or give it back where sampling has not begun, and take no other.
    pub drain: CancellationToken,
    /// Drop everything: the lease in hand expires, or dies with the coordinator.
    pub stop: CancellationToken,
}

/// Runs the role until the run is over or `shutdown`, which drops the lease in hand, with policies from the learner.
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
    run_at(WorkerPlace::default(), config, coordinator, learner, samplers, ending).await
}

/// Runs the role at a place of its own until the run is over or it is asked to end.
///
/// # Errors
/// [`WorkerError`].
pub async fn run_at(
    place: WorkerPlace,
    config: WorkerConfig,
    coordinator: impl Into<Channel>,
    learner: impl Into<Channel>,
    samplers: Arc<dyn SamplerFactory>,
    ending: Ending,
) -> Result<Summary, WorkerError> {
    let mut summary = Summary::default();
    let Ending { drain, stop } = ending;
    let work = Box::pin(work(place, config, coordinator.into(), learner.into(), samplers, drain, &mut summary));
    stop.run_until_cancelled(work).await.unwrap_or(Ok(()))?;
    tracing::info!(worker = config.id.0, leases = summary.leases, groups = summary.groups, "worker stopped");
    Ok(summary)
}

async fn work(
    place: WorkerPlace,
    config: WorkerConfig,
    coordinator: Channel,
    learner: Channel,
    samplers: Arc<dyn SamplerFactory>,
    drain: CancellationToken,
    summary: &mut Summary,
) -> Result<(), WorkerError> {
    let WorkerPlace { parent, shelf, catalog } = place;
    let set_up = Workbench::set_up(config, coordinator.clone(), catalog, samplers);
    let Some(workbench) = drain.run_until_cancelled(set_up).await else { return Ok(()) };
    let workbench = workbench?;
    summary.catalog_bytes = workbench.fetched;
    let subscriber = PolicySubscriber::new(config, learner.clone(), parent, shelf.clone());
    let shelf = shelf.subscribe();
    let activity = Arc::new(Activity::begin(shelf.clone()));
    let lease_loop = LeaseLoop::new(config, coordinator, learner, shelf, workbench, drain, activity);
    tokio::select! {
        ended = lease_loop.run(summary) => ended,
        failed = subscriber.run() => match failed {
            Err(error) => Err(error),
        },
    }
}
