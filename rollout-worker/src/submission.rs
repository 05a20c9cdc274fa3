//! Bringing the groups of one lease to the learner.

use crate::{WorkerConfig, WorkerError};
use backon::BackoffBuilder;
use riser_core::{group::RolloutGroup, ids::GroupId};
use riser_proto::{
    call::{is_transient, within},
    transport::{self, Channel},
    v1,
};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Sends `groups` until the learner has acknowledged each; groups without an acknowledgement are sent again when a
/// stream breaks, which is harmless because the learner counts a group once.
pub(crate) async fn submit(
    config: &WorkerConfig,
    learner: Channel,
    groups: Vec<RolloutGroup>,
) -> Result<(), WorkerError> {
    let mut unacknowledged: BTreeMap<GroupId, v1::RolloutGroup> =
        groups.into_iter().map(|group| (group.id, group.into())).collect();
    let mut pauses = config.patience.pauses().build();
    while !unacknowledged.is_empty() {
        let before = unacknowledged.len();
        let Err(error) = stream(config, learner.clone(), &mut unacknowledged).await else { continue };
        match &error {
            WorkerError::Learner(status) if is_transient(status) => {}
            _ => return Err(error),
        }
        if unacknowledged.len() < before {
            pauses = config.patience.pauses().build();
        }
        let Some(pause) = pauses.next() else { return Err(error) };
        tracing::info!(worker = config.id.0, %error, ?pause, "submission interrupted");
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Sends over one stream, with at most `submit_window` groups on their way.
async fn stream(
    config: &WorkerConfig,
    learner: Channel,
    unacknowledged: &mut BTreeMap<GroupId, v1::RolloutGroup>,
) -> Result<(), WorkerError> {
    let deadline = config.patience.deadline;
    let window = config.submit_window.max(1);
    let mut client = transport::learner_client(learner);
    let (sender, receiver) = mpsc::channel(window);
    let mut queue: Vec<v1::RolloutGroup> = unacknowledged.values().rev().cloned().collect();
    let mut on_their_way = 0;
    // The channel has room for a whole window, so sending never waits; the acknowledgements are what is waited for.
    let mut fill = |on_their_way: &mut usize| {
        while *on_their_way < window {
            let Some(group) = queue.pop() else { break };
            if sender.try_send(group).is_err() {
                // The stream is broken, which the acknowledgements will say with a reason.
                break;
            }
            *on_their_way += 1;
        }
    };
    fill(&mut on_their_way);
    let call = client.submit_groups(ReceiverStream::new(receiver));
    let mut acks = within(deadline, call).await.map_err(WorkerError::Learner)?.into_inner();
    while !unacknowledged.is_empty() {
        let ack = within(deadline, acks.message()).await.map_err(WorkerError::Learner)?;
        let ack = ack.ok_or_else(|| WorkerError::Learner(Status::unavailable("the learner closed the stream")))?;
        match v1::Admission::try_from(ack.admission) {
            Ok(v1::Admission::Accepted | v1::Admission::Duplicate) => {
                if unacknowledged.remove(&GroupId(ack.group)).is_some() {
                    on_their_way -= 1;
                }
            }
            _ => return Err(WorkerError::Rejected { group: ack.group, reason: ack.reason }),
        }
        fill(&mut on_their_way);
    }
    Ok(())
}
