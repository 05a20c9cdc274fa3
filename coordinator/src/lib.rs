//! The coordinator: decides which worker samples which groups with which policy, and hands out the catalog.
//!
//! All decisions are in [`schedule`], a pure state machine that is given the time; [`actor`] feeds it and waits for it,
//! [`service`] is its gRPC face, [`catalog`] hands out the items, [`catalogs`] takes in new ones, `overview` says how the run stands, [`reception`] says who is
//! let in, [`prompts`] is where prompts come from. The crate refuses to know how groups are sampled or trained on.
//!
//! Start reading at [`schedule`].

pub mod actor;
pub mod catalog;
pub mod catalogs;
mod counts;
mod meter;
mod overview;
pub mod prompts;
mod recent;
pub mod reception;
mod roll;
pub mod schedule;
pub mod service;

pub use counts::Counts;

use actor::{CoordinatorActor, CoordinatorError, Report};
use catalog::CatalogService;
use catalogs::RunData;
use prompts::PromptSource;
use reception::Reception;
use riser_core::{
    catalog::plan::CatalogPlan, ids::Incarnation, learner_report::LearnerReport, prefix_tree::PrefixTree, random::Seed,
    run_event::RunEvent,
};
use riser_proto::{access::Refusals, health, transport, v1::coordinator_server::CoordinatorServer};
use roll::{Limits, Roll};
use schedule::ScheduleConfig;
use service::{CoordinatorService, MAX_WAIT, WatchService};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// How often a coordinator that waits looks whether the run is over.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Runs the role until `shutdown` for workers and a learner that know the run already, because they share this process.
///
/// `log` is waited for when it is full; drop its receiver to keep no log.
///
/// Returns the final counts of leases.
///
/// # Errors
/// [`CoordinatorError`] if a prompt cannot be read or the server fails.
pub async fn run<I, IO, IE>(
    config: ScheduleConfig,
    seed: Seed,
    prompts: Box<dyn PromptSource>,
    tree: &PrefixTree,
    incoming: I,
    log: mpsc::Sender<RunEvent>,
    shutdown: CancellationToken,
) -> Result<Counts, CoordinatorError>
where
    I: Stream<Item = Result<IO, IE>> + Send,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    IE: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    serve(config, seed, RunData::fixed(prompts, tree), Reception::default(), incoming, log, shutdown).await
}

/// Runs the role until `shutdown`: the actor and its gRPC face on the connections of `incoming`. With a reception for
/// strangers it also ends when the run is over and every worker has been told so.
///
/// `log` is waited for when it is full; drop its receiver to keep no log.
///
/// Returns the final counts of leases.
///
/// # Errors
/// [`CoordinatorError`] if a prompt cannot be read or the server fails.
pub async fn serve<I, IO, IE>(
    config: ScheduleConfig,
    seed: Seed,
    data: RunData,
    reception: Reception,
    incoming: I,
    log: mpsc::Sender<RunEvent>,
    shutdown: CancellationToken,
) -> Result<Counts, CoordinatorError>
where
    I: Stream<Item = Result<IO, IE>> + Send,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    IE: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // The server goes when the actor does, and the actor when the server does.
    let stop = shutdown.child_token();
    let plan = CatalogPlan::new(data.first.file.manifest().catalog());
    // Said by no learner, and nothing that one says afterwards counts.
    let the_end = LearnerReport::at_the_end(Incarnation(u32::MAX), config.pacing, config.total_batches, plan);
    let limits = Limits { workers: config.max_waiting, silence: config.lease_timeout.max(2 * MAX_WAIT) };
    let roll = Arc::new(Roll::new(reception.strangers, limits));
    let refusals = Refusals::counted_by(meter::refused);
    let (actor, handle) = CoordinatorActor::new(config, seed, data, log, roll.clone(), refusals.clone());
    let over = handle.over().clone();
    let catalog = transport::catalog_server(CatalogService::following(handle.catalogs()));
    let watch = transport::watch_server(WatchService::new(handle.clone()));
    let service = CoordinatorService::new(handle.clone(), roll.clone());
    let service = transport::coordinator_server(service);
    let (health, probes) = health::health::<CoordinatorServer<CoordinatorService>>().await;
    let mut serve = reception.access.server().map_err(CoordinatorError::Server)?;
    let serve = serve
        .add_service(reception.access.guard(service, &refusals))
        .add_service(reception.access.guard(catalog, &refusals))
        .add_service(reception.access.guard(watch, &refusals))
        .add_service(probes)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    health.serving().await;
    let close = stop.run_until_cancelled(async {
        while !over.is_cancelled() {
            if let Some(memory) = roll.memory()
                && memory.is_over().await.map_err(CoordinatorError::Memory)?
            {
                let (position, place, activity) = (the_end.clone(), None, None);
                // No learner may ever come to say so again. An actor that is gone needs no telling.
                let _ = handle.report(Report { position, place, activity }).await;
            }
            // Another coordinator with the same folder may hear of the end in place of this one.
            let _ = tokio::time::timeout(LOOK_AGAIN, over.cancelled()).await;
        }
        roll.all_dismissed().await;
        Ok::<(), CoordinatorError>(())
    });
    let (counts, served, closed) = tokio::join!(
        finish(actor.run(stop.clone()), &stop),
        finish(Box::pin(serve), &stop),
        finish(Box::pin(close), &stop)
    );
    closed.unwrap_or(Ok(()))?;
    let counts = counts?;
    served.map_err(CoordinatorError::Server)?;
    Ok(counts)
}

/// Runs `part` and stops the others when it ends.
async fn finish<T>(part: impl Future<Output = T>, stop: &CancellationToken) -> T {
    let result = part.await;
    stop.cancel();
    result
}
