//! The role as a whole: its actors, their order of ending, and the reason.

use crate::{
    Event, LearnerConfig, Outcome, Trainer,
    batch_book::BatchBook,
    batcher::Batcher,
    catalogs::{self, Changes, ResumeError},
    conduct::Conduct,
    distribution::Distribution,
    ingest::Ingest,
    meter,
    notifier::Notifier,
    operator::OperatorService,
    publisher::Publisher,
    service::LearnerService,
    steps::{StepError, Steps},
};
use riser_core::{catalog::plan::CatalogPlan, prefix_tree::PrefixTree, run_event::RunEvent};
use riser_proto::{
    access::Refusals,
    health,
    offload::offload,
    policy_feed::PolicyFeeds,
    transport::{self, Channel},
    v1::learner_server::LearnerServer,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// How long connections and the last report to the coordinator may take after the last step.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the learner ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum LearnerError {
    /// Training failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The run goes on with a catalog that is not to be had.
    #[error(transparent)]
    Catalog(#[from] ResumeError),
    /// A thread that opens catalogs panicked.
    #[error("catalogs cannot be opened: {0}")]
    Panicked(#[source] tokio::task::JoinError),
    /// The coordinator is gone or disagrees.
    #[error("coordinator cannot be told about new versions: {0}")]
    Coordinator(#[source] tonic::Status),
    /// The gRPC server failed.
    #[error("server of the learner failed: {0}")]
    Server(#[source] tonic::transport::Error),
}

/// Runs the role until every batch is trained or `shutdown`: the actors and their gRPC face on the connections of
/// `incoming`. On `shutdown` the current step is finished and checkpointed.
///
/// `events` is waited for when it is full; drop its receiver to watch nothing.
///
/// # Errors
/// [`LearnerError`] says which part failed first.
pub async fn run<I, IO, IE>(
    config: LearnerConfig,
    trainer: Box<dyn Trainer>,
    tree: Arc<PrefixTree>,
    coordinator: impl Into<Channel>,
    incoming: I,
    events: mpsc::Sender<Event>,
    shutdown: CancellationToken,
) -> Result<Outcome, LearnerError>
where
    I: Stream<Item = Result<IO, IE>> + Send,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    IE: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Two stages: `winding_down` ends training, `stop` ends everything that serves it.
    let winding_down = shutdown.child_token();
    let (stop, coordinator) = (CancellationToken::new(), coordinator.into());
    let log = config.log.clone().unwrap_or_else(|| mpsc::channel(1).0);
    let config = config.with_consumed();
    meter::begin(config.start_version);
    let catalogs = config.catalogs.clone().unwrap_or_else(|| CatalogPlan::new(tree.digest()));
    let (trees, to_come) = {
        let (catalogs, version, changes) = (catalogs.clone(), config.start_version, config.changes.clone());
        let opened = offload(move || catalogs::resume(&catalogs, version.0, tree, changes.as_ref())).await;
        opened.map_err(LearnerError::Panicked)??
    };
    let (pacing, total_batches, consumed) = (config.pacing, config.total_batches, config.consumed.clone());
    let book = BatchBook::new(pacing, total_batches, config.start_version, consumed, catalogs);
    let (batcher, batches) = Batcher::new(book, config.budget, config.incarnation, log.clone());
    let (publisher, shelf) = Publisher::new(config.pacing);
    let (distribution, offer) = Distribution::new(shelf.clone(), config.distribution);
    for (era, extent) in to_come {
        // Nobody has to keep a log.
        let _ = log.send(RunEvent::CatalogChanged { learner: config.incarnation, era, extent }).await;
    }
    let (changes, trees) = Changes::new(config.changes.clone(), batches.clone(), trees);
    let ingest = Ingest::new(&config, trees, shelf.clone(), batches.clone(), log.clone());
    let feeds = PolicyFeeds::new(offer, config.feed(), config.egress.clone(), stop.clone());
    let presence = config.presence.clone();
    let refusals = Refusals::counted_by(meter::refused);
    let conduct = Conduct::new(presence.max_rejections, config.activity.clone(), refusals.clone());
    let service = LearnerService::new(ingest, feeds, config.budget, conduct);
    let (health, probes) = health::health::<LearnerServer<LearnerService>>().await;
    // A coordinator in another process has to hear of the end of the run, however long it is away.
    let must_be_heard = presence.address.is_some();
    let give_up = CancellationToken::new();

    // Boxed, like the server and the step loop below: as parts of this future they would make it tens of kilobytes.
    let (batches_to_report, patience, report_every) = (batches.clone(), config.patience, config.report_every);
    let notifier = Notifier {
        learner: config.incarnation,
        start: config.start,
        address: presence.address,
        shelf,
        batches: batches_to_report,
        coordinator,
        patience,
        report_every,
        health,
        activity: config.activity.clone(),
        egress: config.egress.clone(),
        refusals: refusals.clone(),
    };
    let notify = Box::pin(notifier.run());
    let mut serve = presence.access.server().map_err(LearnerError::Server)?;
    let serve = serve
        .add_service(presence.access.guard(transport::learner_server(service), &refusals))
        .add_service(presence.access.guard(transport::operator_server(OperatorService::new(changes)), &refusals))
        .add_service(probes)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let serve = Box::pin(serve);
    let steps = Steps::new(config, trainer, publisher, batches, events, log);

    let steps = async {
        let outcome = Box::pin(steps.run(winding_down.clone())).await;
        if !(must_be_heard && outcome.as_ref().is_ok_and(|outcome| outcome.finished)) {
            give_up.cancel();
        }
        stop.cancel();
        outcome
    };
    // The last report to the coordinator and the last groups still need the batcher.
    let serving_ended = CancellationToken::new();
    let serving = async {
        let ends = tokio::join!(
            winds_down(drained(notify, &give_up), &winding_down),
            winds_down(drained(serve, &stop), &winding_down),
        );
        serving_ended.cancel();
        ends
    };
    let (outcome, (notified, served), (), ()) =
        tokio::join!(steps, serving, batcher.run(serving_ended.clone()), distribution.run());
    let outcome = outcome?;
    served.unwrap_or(Ok(())).map_err(LearnerError::Server)?;
    match notified.unwrap_or(Ok(())) {
        // Once every batch is trained there is nothing left to schedule, so nobody has to know.
        Err(status) if !outcome.finished => Err(LearnerError::Coordinator(status)),
        _ => Ok(outcome),
    }
}

/// Runs a part that the role cannot do without; its end winds the role down.
async fn winds_down<T>(part: impl Future<Output = T>, winding_down: &CancellationToken) -> T {
    let result = part.await;
    winding_down.cancel();
    result
}

/// Gives a part [`DRAIN`] to end by itself after `stop`; `None` if it did not.
async fn drained<T>(part: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
    tokio::select! {
        result = part => Some(result),
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => None,
    }
}
