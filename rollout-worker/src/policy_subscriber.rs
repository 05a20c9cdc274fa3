//! The actor that keeps the policy shelf up to date.
//!
//! | | |
//! |---|---|
//! | takes | the learner's policy stream; the bytes of one message wait in the connection's window |
//! | waits for | the next version, or a heartbeat |
//! | gives | the shelf, as a watch: readers see the newest state and never hold up the stream |
//!
//! A broken stream is opened again, from the newest version in hand; patience starts anew with every message.

use crate::{WorkerConfig, WorkerError, policy_shelf::PolicyShelf};
use backon::BackoffBuilder;
use riser_proto::{
    call::{is_transient, within},
    incarnation::Incarnation,
    policy::PolicyAssembler,
    transport::{self, Channel},
    v1,
};
use tokio::sync::watch;
use tonic::Status;

/// Keeps `shelf` up to date; ends only with an error.
pub(crate) async fn run(
    config: WorkerConfig,
    learner: Channel,
    shelf: watch::Sender<PolicyShelf>,
) -> Result<std::convert::Infallible, WorkerError> {
    let mut pauses = config.patience.pauses().build();
    loop {
        let mut heard = false;
        let Err(error) = follow(&config, learner.clone(), &shelf, &mut heard).await;
        match &error {
            WorkerError::Learner(status) if is_transient(status) => {}
            _ => return Err(error),
        }
        if heard {
            pauses = config.patience.pauses().build();
        }
        let Some(pause) = pauses.next() else { return Err(error) };
        tracing::info!(worker = config.id.0, %error, ?pause, "policy stream lost");
        tokio::time::sleep(pause).await;
    }
}

/// Follows one stream until it breaks.
async fn follow(
    config: &WorkerConfig,
    learner: Channel,
    shelf: &watch::Sender<PolicyShelf>,
    heard: &mut bool,
) -> Result<std::convert::Infallible, WorkerError> {
    let mut client = transport::learner_client(learner);
    let (after, incarnation) = {
        let shelf = shelf.borrow();
        (shelf.newest().map(|version| version.0), shelf.incarnation())
    };
    let call = client.subscribe_policy(v1::SubscribePolicyRequest { after, incarnation });
    let reply = within(config.patience.deadline, call).await.map_err(WorkerError::Learner)?;
    let learner = Incarnation::announced(reply.metadata());
    if shelf.send_if_modified(|shelf| shelf.hear_from(learner)) {
        tracing::info!(worker = config.id.0, incarnation = learner.number, start = learner.start.0, "learner found");
    }
    let mut chunks = reply.into_inner();
    let mut assembler = PolicyAssembler::new(config.max_policy_bytes);
    loop {
        let chunk = within(config.policy_silence, chunks.message()).await.map_err(WorkerError::Learner)?;
        let chunk = chunk.ok_or_else(|| WorkerError::Learner(Status::unavailable("the policy stream ended")))?;
        *heard = true;
        let received = assembler.push(chunk).map_err(|source| WorkerError::Wire { peer: "learner", source })?;
        if let Some(received) = received {
            tracing::debug!(worker = config.id.0, version = received.snapshot.version().0, "policy received");
            shelf.send_modify(|shelf| shelf.add(received));
        }
    }
}
