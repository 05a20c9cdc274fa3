//! The gRPC face of the learner.

use crate::{
    conduct::Conduct,
    ingest::Ingest,
    publisher::{self, Shelf, SubscriptionSettings},
};
use riser_core::ids::PolicyVersion;
use riser_proto::{
    access::Caller,
    incarnation::Incarnation,
    v1::{self, learner_server::Learner},
};
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
    stop: CancellationToken,
    incarnation: Incarnation,
    conduct: Arc<Conduct>,
}

impl LearnerService {
    /// A face for `ingest` and the publisher's `shelf`; `stop` ends all its streams.
    pub fn new(
        ingest: Ingest,
        shelf: watch::Receiver<Shelf>,
        settings: SubscriptionSettings,
        max_subscribers: usize,
        stop: CancellationToken,
    ) -> Self {
        let subscribers = Arc::new(Semaphore::new(max_subscribers));
        let (incarnation, conduct) = (Incarnation::default(), Arc::default());
        Self { ingest, shelf, settings, subscribers, stop, incarnation, conduct }
    }

    /// The same face of a certain life of the learner, which refuses workers by their `conduct`.
    #[must_use]
    pub fn with_presence(self, incarnation: Incarnation, conduct: Conduct) -> Self {
        Self { incarnation, conduct: Arc::new(conduct), ..self }
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
        let caller = Caller::of(&request);
        self.conduct.check(caller)?;
        let (ingest, conduct) = (self.ingest.clone(), self.conduct.clone());
        let acks = request.into_inner().then(move |group| {
            let (ingest, conduct) = (ingest.clone(), conduct.clone());
            async move {
                let group = group.inspect_err(|status| conduct.broke_off(caller, status))?;
                let taken = ingest.take(group).await.map_err(|stopped| Status::unavailable(stopped.to_string()));
                let (ack, is_offence) = taken?;
                if is_offence {
                    conduct.offended(caller, &ack.reason)?;
                }
                Ok(ack)
            }
        });
        Ok(Response::new(Box::pin(until_error(acks))))
    }

    type SubscribePolicyStream = Messages<v1::PolicyChunk>;

    async fn subscribe_policy(
        &self,
        request: Request<v1::SubscribePolicyRequest>,
    ) -> Result<Response<Self::SubscribePolicyStream>, Status> {
        self.conduct.check(Caller::of(&request))?;
        let v1::SubscribePolicyRequest { after, incarnation } = request.into_inner();
        let after = self.incarnation.held(after.map(PolicyVersion), incarnation);
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
        let mut response = Response::new(Box::pin(ReceiverStream::new(receiver)) as Self::SubscribePolicyStream);
        self.incarnation.announce(response.metadata_mut());
        Ok(response)
    }
}

/// The stream up to and including its first error; whoever sent nonsense is not listened to any further.
fn until_error<T>(stream: impl Stream<Item = Result<T, Status>>) -> impl Stream<Item = Result<T, Status>> {
    let mut has_failed = false;
    stream.take_while(move |item| !std::mem::replace(&mut has_failed, item.is_err()))
}
