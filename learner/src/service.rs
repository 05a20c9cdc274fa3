//! The gRPC face of the learner.

use crate::{
    batcher::IngestBudget,
    ingest::Ingest,
    publisher::{self, Shelf, SubscriptionSettings},
};
use riser_core::ids::PolicyVersion;
use riser_proto::v1::{self, learner_server::Learner};
use std::{pin::Pin, sync::Arc};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Messages of a subscription that may wait for its connection.
const SUBSCRIPTION_MESSAGES: usize = 4;

/// Translates between messages and the actors.
#[derive(Debug)]
pub struct LearnerService {
    ingest: Ingest,
    shelf: watch::Receiver<Shelf>,
    settings: SubscriptionSettings,
    subscribers: Arc<Semaphore>,
    submitters: Arc<Semaphore>,
    stop: CancellationToken,
}

impl LearnerService {
    /// A face for `ingest` and the publisher's `shelf`; `stop` ends all its streams.
    pub fn new(
        ingest: Ingest,
        shelf: watch::Receiver<Shelf>,
        settings: SubscriptionSettings,
        max_subscribers: usize,
        budget: IngestBudget,
        stop: CancellationToken,
    ) -> Self {
        let subscribers = Arc::new(Semaphore::new(max_subscribers));
        let submitters = Arc::new(Semaphore::new(budget.max_streams));
        Self { ingest, shelf, settings, subscribers, submitters, stop }
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Learner for LearnerService {
    type SubmitGroupsStream = Messages<v1::GroupAck>;

    /// One acknowledgement per group, made when the client has room for it: a client that does not read its
    /// acknowledgements cannot send either.
    async fn submit_groups(
        &self,
        request: Request<Streaming<v1::RolloutGroup>>,
    ) -> Result<Response<Self::SubmitGroupsStream>, Status> {
        let ingest = self.ingest.clone();
        let place = self
            .submitters
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("no room for another stream of groups"))?;
        let acks = request.into_inner().then(move |group| {
            let ingest = ingest.clone();
            // The place is given back when the stream is dropped, and with it this closure.
            let _place = &place;
            async move { ingest.take(group?).await.map_err(|stopped| Status::unavailable(stopped.to_string())) }
        });
        Ok(Response::new(Box::pin(acks)))
    }

    type SubscribePolicyStream = Messages<v1::PolicyChunk>;

    async fn subscribe_policy(
        &self,
        request: Request<v1::SubscribePolicyRequest>,
    ) -> Result<Response<Self::SubscribePolicyStream>, Status> {
        let after = request.into_inner().after.map(PolicyVersion);
        let place = self
            .subscribers
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("no room for another policy subscriber"))?;
        let (sender, receiver) = mpsc::channel(SUBSCRIPTION_MESSAGES);
        let feed = publisher::feed(self.shelf.clone(), after, sender, self.settings, self.stop.clone());
        tokio::spawn(async move {
            feed.await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
