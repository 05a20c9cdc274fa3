//! The coordinator: decides which worker samples which groups with which policy, and hands out the catalog.
//!
//! All decisions are in [`schedule`], a pure state machine that is given the time; [`actor`] feeds it and waits for it,
//! [`service`] is its gRPC face, [`prompts`] is where prompts come from. The crate refuses to know how groups are sampled
//! or trained on.
//!
//! Start reading at [`schedule`].

pub mod actor;
mod counts;
pub mod prompts;
pub mod schedule;
pub mod service;

pub use counts::Counts;

use actor::{CoordinatorActor, CoordinatorError};
use prompts::PromptSource;
use riser_core::{prefix_tree::PrefixTree, random::Seed, run_event::RunEvent};
use riser_proto::{catalog::CatalogFile, transport};
use schedule::ScheduleConfig;
use std::future::Future;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Runs the role until `shutdown`: the actor and its gRPC face on the connections of `incoming`.
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
    // The server goes when the actor does, and the actor when the server does.
    let stop = shutdown.child_token();
    let (actor, handle) = CoordinatorActor::new(config, seed, prompts, log);
    let service = transport::coordinator_server(service::CoordinatorService::new(handle, CatalogFile::new(tree)));
    let serve =
        transport::server().add_service(service).serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let (counts, served) = tokio::join!(finish(actor.run(stop.clone()), &stop), finish(serve, &stop));
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
