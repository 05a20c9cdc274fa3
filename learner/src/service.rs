//! The gRPC face of the learner.

use crate::{batcher::IngestBudget, ingest::Ingest};
use riser_proto::{
    policy_feed::{PolicyFeeds, PolicyStream},
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
}

impl LearnerService {
    /// A face for `ingest`, as many streams as `budget` has room for, and the policies that `feeds` offers.
    pub fn new(ingest: Ingest, feeds: PolicyFeeds, budget: IngestBudget) -> Self {
        Self { ingest, feeds, submitters: Arc::new(Semaphore::new(budget.max_streams)) }
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

    type SubscribePolicyStream = PolicyStream;

    async fn subscribe_policy(
        &self,
        request: Request<v1::SubscribePolicyRequest>,
    ) -> Result<Response<Self::SubscribePolicyStream>, Status> {
        Ok(Response::new(self.feeds.subscribe(&request.into_inner())?))
    }
}
