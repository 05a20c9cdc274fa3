//! Bringing the groups of one lease to the learner.

use crate::{WorkerConfig, WorkerError, meter};
use backon::BackoffBuilder;
use riser_core::{group::RolloutGroup, ids::GroupId, run_event::Origin};
use riser_proto::{
    call::{is_transient, within},
    group::labelled,
    transport::{self, Channel},
    v1,
};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How the groups of a lease were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// The learner has every one.
    Complete,
    /// The learner had no place for at least one, any more or yet.
    Untimely,
    /// The learner is away, and nobody waits for these groups any more.
    Unwanted,
}

/// Sends `groups` until the learner has answered each; groups without an answer are sent again when a stream breaks, which
/// is harmless because the learner counts a group once. A stream is only opened again for a lease that is held: the learner
/// may have gone because the run is over.
pub(crate) async fn submit<F: Future<Output = bool>>(
    config: &WorkerConfig,
    learner: Channel,
    groups: Vec<RolloutGroup>,
    origin: Origin,
    is_held: impl Fn() -> F,
) -> Result<Receipt, WorkerError> {
    let mut unacknowledged: BTreeMap<GroupId, v1::RolloutGroup> =
        groups.into_iter().map(|group| (group.id, labelled(group, origin))).collect();
    let mut receipt = Receipt::Complete;
    let mut pauses = config.patience.pauses().build();
    while !unacknowledged.is_empty() {
        let before = unacknowledged.len();
        let Err(error) = stream(config, learner.clone(), &mut unacknowledged, &mut receipt).await else { continue };
        match &error {
            WorkerError::Learner(status) if is_transient(status) => {}
            _ => return Err(error),
        }
        if !is_held().await {
            return Ok(Receipt::Unwanted);
        }
        if unacknowledged.len() < before {
            pauses = config.patience.pauses().build();
        }
        let Some(pause) = pauses.next() else { return Err(error) };
        tracing::info!(worker = config.id.0, %error, ?pause, "submission interrupted");
        meter::reconnected();
        tokio::time::sleep(pause).await;
    }
    Ok(receipt)
}

/// Sends over one stream. One group goes ahead; its acknowledgement says how many may be on their way, of which the worker
/// uses at most `submit_window`.
async fn stream(
    config: &WorkerConfig,
    learner: Channel,
    unacknowledged: &mut BTreeMap<GroupId, v1::RolloutGroup>,
    receipt: &mut Receipt,
) -> Result<(), WorkerError> {
    let deadline = config.patience.deadline;
    let most = config.submit_window.max(1);
    let mut client = transport::learner_client(learner);
    let (sender, receiver) = mpsc::channel(most);
    let mut queue: Vec<v1::RolloutGroup> = unacknowledged.values().rev().cloned().collect();
    let (mut on_their_way, mut window) = (0, 1);
    // The channel has room for a whole window, so sending never waits; the acknowledgements are what is waited for.
    let mut fill = |on_their_way: &mut usize, window: usize| {
        while *on_their_way < window {
            let Some(group) = queue.pop() else { break };
            if sender.try_send(group).is_err() {
                // The stream is broken, which the acknowledgements will say with a reason.
                break;
            }
            *on_their_way += 1;
        }
    };
    fill(&mut on_their_way, window);
    let call = client.submit_groups(ReceiverStream::new(receiver));
    let mut acks = within(deadline, call).await.map_err(WorkerError::Learner)?.into_inner();
    while !unacknowledged.is_empty() {
        let ack = within(deadline, acks.message()).await.map_err(WorkerError::Learner)?;
        let ack = ack.ok_or_else(|| WorkerError::Learner(Status::unavailable("the learner closed the stream")))?;
        match v1::Admission::try_from(ack.admission) {
            Ok(v1::Admission::Accepted | v1::Admission::Duplicate) => {}
            Ok(v1::Admission::Untimely) => {
                tracing::info!(worker = config.id.0, group = ack.group, ack.reason, "group came at the wrong time");
                *receipt = Receipt::Untimely;
            }
            _ => return Err(WorkerError::Rejected { group: ack.group, reason: ack.reason }),
        }
        if unacknowledged.remove(&GroupId(ack.group)).is_some() {
            on_their_way -= 1;
        }
        if ack.window > 0 {
            window = most.min(ack.window as usize);
        }
        fill(&mut on_their_way, window);
    }
    Ok(())
}
