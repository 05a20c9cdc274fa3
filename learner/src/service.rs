//! The gRPC face of the learner.

use crate::{batcher::IngestBudget, conduct::Conduct, ingest::Ingest};
use riser_proto::{
    access::Caller,
    policy_feed::{PolicyFeeds, PolicyStream},
    trace,
    v1::{self, learner_server::Learner},
};
use std::{pin::Pin, sync::Arc};
use tokio::sync::Semaphore;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Translates between messages and the actors.
#[derive(Debug)]
pub struct LearnerService {
    ingest: Ingest,
    feeds: PolicyFeeds,
    submitters: Arc<Semaphore>,
    conduct: Arc<Conduct>,
}

impl LearnerService {
    /// A face for `ingest`, as many streams as `budget` has room for, and the policies that `feeds` offers, for workers whose
    /// `conduct` allows it.
    pub fn new(ingest: Ingest, feeds: PolicyFeeds, budget: IngestBudget, conduct: Conduct) -> Self {
        let submitters = Arc::new(Semaphore::new(budget.max_streams));
        Self { ingest, feeds, submitters, conduct: Arc::new(conduct) }
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
        let place = self
            .submitters
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("no room for another stream of groups"))?;
        let span = tracing::info_span!("ingest", %caller);
        trace::follow(&span, trace::received(request.metadata()));
        let sent_by = trace::point(&span);
        let acks = request.into_inner().then(move |group| {
            let (ingest, conduct) = (ingest.clone(), conduct.clone());
            // The place is given back and the span ends when the stream is dropped, and with it this closure.
            let _held = (&place, &span);
            async move {
                let group = group.inspect_err(|status| conduct.broke_off(caller, status))?;
                let taken = ingest.take(group, sent_by).await;
                let ack = taken.map_err(|stopped| Status::unavailable(stopped.to_string()))?;
                if ack.admission() == v1::Admission::Rejected {
                    conduct.offended(caller, &ack.reason)?;
                }
                Ok(ack)
            }
        });
        Ok(Response::new(Box::pin(until_error(acks))))
    }

    type SubscribePolicyStream = PolicyStream;

    async fn subscribe_policy(
        &self,
        request: Request<v1::SubscribePolicyRequest>,
    ) -> Result<Response<Self::SubscribePolicyStream>, Status> {
        self.conduct.check(Caller::of(&request))?;
        Ok(Response::new(self.feeds.subscribe(&request.into_inner())?))
    }
}

/// The stream up to and including its first error; whoever sent nonsense is not listened to any further.
fn until_error<T>(stream: impl Stream<Item = Result<T, Status>>) -> impl Stream<Item = Result<T, Status>> {
    let mut has_failed = false;
    stream.take_while(move |item| !std::mem::replace(&mut has_failed, item.is_err()))
}
