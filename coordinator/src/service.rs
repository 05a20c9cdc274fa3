//! The gRPC face of the coordinator.

use crate::{
    actor::{CoordinatorHandle, Stopped},
    schedule::ScheduleError,
};
use riser_core::ids::WorkerId;
use riser_proto::{
    WireError,
    catalog::CatalogFile,
    lease::LeaseOutcome,
    v1::{self, coordinator_server::Coordinator},
};
use std::{pin::Pin, time::Duration};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

/// Longest that a question for work is kept open; a worker that wants to wait longer asks again.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Translates between messages and the actor.
#[derive(Debug)]
pub struct CoordinatorService {
    handle: CoordinatorHandle,
    catalog: CatalogFile,
}

impl CoordinatorService {
    /// A face for the actor behind `handle`, which also hands out `catalog`.
    pub fn new(handle: CoordinatorHandle, catalog: CatalogFile) -> Self {
        Self { handle, catalog }
    }
}

fn stopped(error: Stopped) -> Status {
    Status::unavailable(error.to_string())
}

fn refused(error: ScheduleError) -> Status {
    let message = error.to_string();
    match error {
        ScheduleError::Crowded { .. } => Status::resource_exhausted(message),
        // The caller should try again once the learner has spoken.
        ScheduleError::Unready => Status::unavailable(message),
        ScheduleError::NotHeld { .. }
        | ScheduleError::Backwards { .. }
        | ScheduleError::Superseded { .. }
        | ScheduleError::BeyondEnd { .. } => Status::failed_precondition(message),
    }
}

/// Losing a lease is an answer, not a failure.
fn held(result: Result<(), ScheduleError>) -> Result<bool, Status> {
    match result {
        Ok(()) => Ok(true),
        Err(ScheduleError::NotHeld { .. }) => Ok(false),
        Err(error) => Err(refused(error)),
    }
}

#[tonic::async_trait]
impl Coordinator for CoordinatorService {
    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseReply>, Status> {
        let v1::LeaseRequest { worker, wait_millis } = request.into_inner();
        let wait = Duration::from_millis(wait_millis).min(MAX_WAIT);
        let reply = self.handle.ask(WorkerId(worker), wait).await.map_err(stopped)?.map_err(refused)?;
        Ok(Response::new(reply.into()))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let claim = request.into_inner().claim.ok_or(WireError::Missing { field: "claim" })?;
        let result = self.handle.renew(claim.into()).await.map_err(stopped)?;
        Ok(Response::new(v1::RenewReply { held: held(result)? }))
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Result<Response<v1::CompleteReply>, Status> {
        let v1::CompleteRequest { claim, outcome } = request.into_inner();
        let claim = claim.ok_or(WireError::Missing { field: "claim" })?;
        let outcome = LeaseOutcome::from_wire(outcome)?;
        let result = self.handle.end(claim.into(), outcome).await.map_err(stopped)?;
        Ok(Response::new(v1::CompleteReply { held: held(result)? }))
    }

    async fn advance(&self, request: Request<v1::AdvanceRequest>) -> Result<Response<v1::AdvanceReply>, Status> {
        self.handle.report(request.into_inner().into()).await.map_err(stopped)?.map_err(refused)?;
        Ok(Response::new(v1::AdvanceReply {}))
    }

    type FetchCatalogStream = Pin<Box<dyn Stream<Item = Result<v1::CatalogChunk, Status>> + Send>>;

    async fn fetch_catalog(
        &self,
        _request: Request<v1::FetchCatalogRequest>,
    ) -> Result<Response<Self::FetchCatalogStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::iter(self.catalog.chunks()).map(Ok))))
    }
}
