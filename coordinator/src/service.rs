//! The gRPC face of the coordinator.

use crate::{
    actor::{CoordinatorHandle, Report, Stopped},
    roll::{Joined, Roll},
    schedule::ScheduleError,
};
use riser_core::{
    activity::{LearnerActivity, WorkerReport, readable},
    ids::{Incarnation, WorkerId},
    learner_report::LearnerReport,
    lease::Claim,
};
use riser_proto::{
    WireError,
    access::Caller,
    join::{self, JoinReply, LearnerPlace, Welcome},
    lease::{LeaseOutcome, LeaseReply},
    trace,
    v1::{self, coordinator_server::Coordinator, watch_server::Watch},
};
use std::{sync::Arc, time::Duration};
use tonic::{Extensions, Request, Response, Status, metadata::MetadataMap};

/// Longest that a question for work is kept open; a worker that wants to wait longer asks again.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(20);

/// Answers whoever watches.
#[derive(Debug)]
pub(crate) struct WatchService {
    handle: CoordinatorHandle,
}

impl WatchService {
    pub(crate) fn new(handle: CoordinatorHandle) -> Self {
        Self { handle }
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        Ok(Response::new(self.handle.status().await.map_err(stopped)?.into()))
    }
}

/// Translates between messages and the actor.
#[derive(Debug)]
pub struct CoordinatorService {
    handle: CoordinatorHandle,
    roll: Arc<Roll>,
}

impl CoordinatorService {
    /// A face for the actor behind `handle`, which also keeps the `roll`.
    pub(crate) fn new(handle: CoordinatorHandle, roll: Arc<Roll>) -> Self {
        Self { handle, roll }
    }

    /// Notes that a worker is there and what it says about itself.
    fn heard(&self, worker: WorkerId, caller: Caller, report: Option<v1::WorkerReport>) -> Result<(), WireError> {
        let report = report.map(WorkerReport::try_from).transpose()?;
        self.roll.heard(worker, caller.address, report);
        Ok(())
    }

    /// The learner, once it is another one than `known`, or after `wait` whatever is known then.
    async fn learner(&self, known: Incarnation, wait: Duration) -> Option<LearnerPlace> {
        let mut learner = self.handle.learner();
        let other = |place: &Option<LearnerPlace>| place.as_ref().is_some_and(|place| place.incarnation != known);
        match tokio::time::timeout(wait, learner.wait_for(other)).await {
            Ok(Ok(place)) => place.clone(),
            Ok(Err(_)) => None,
            Err(_) => self.handle.learner().borrow().clone(),
        }
    }
}

fn limited(wait_millis: u64) -> Duration {
    Duration::from_millis(wait_millis).min(MAX_WAIT)
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
        | ScheduleError::Catalogs { .. }
        | ScheduleError::Twin { .. }
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
        let caller = Caller::of(&request);
        let v1::LeaseRequest { worker, wait_millis, report } = request.into_inner();
        let worker = WorkerId(worker);
        self.heard(worker, caller, report)?;
        let reply = self.handle.ask(worker, limited(wait_millis)).await.map_err(stopped)?.map_err(refused)?;
        let mut metadata = MetadataMap::new();
        match &reply {
            LeaseReply::Work(lease) => {
                let span =
                    tracing::info_span!("lease", worker = worker.0, lease = lease.id.0, version = lease.version.0);
                trace::answer(&mut metadata, &span);
            }
            LeaseReply::Done => self.roll.dismiss(worker),
            LeaseReply::Wait => {}
        }
        Ok(Response::from_parts(metadata, reply.into(), Extensions::default()))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        let from = Caller::of(&request).address;
        let v1::JoinRequest { name, wait_millis, relay } = request.into_inner();
        let relay = join::place_of("relay", relay)?;
        let run = self.roll.description().cloned();
        let run = run.ok_or_else(|| Status::unimplemented("the workers of this run are its own"))?;
        if self.handle.over().is_cancelled() {
            return Ok(Response::new(JoinReply::Done.into()));
        }
        let Some(learner) = self.learner(Incarnation(0), limited(wait_millis)).await else {
            return Ok(Response::new(JoinReply::Wait.into()));
        };
        let joined = self.roll.join(&name, from, relay).map_err(|full| Status::resource_exhausted(full.to_string()))?;
        let Joined { worker, parent } = joined;
        tracing::info!(worker = worker.0, name = readable(&name), ?from, "worker joined");
        Ok(Response::new(JoinReply::Welcome(Box::new(Welcome { worker, run, learner, parent })).into()))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveReply>, Status> {
        let worker = WorkerId(request.into_inner().worker);
        self.roll.dismiss(worker);
        tracing::info!(worker = worker.0, "worker left");
        Ok(Response::new(v1::LeaveReply {}))
    }

    async fn locate(&self, request: Request<v1::LocateRequest>) -> Result<Response<v1::LocateReply>, Status> {
        let v1::LocateRequest { known, wait_millis } = request.into_inner();
        let learner = self.learner(Incarnation(known), limited(wait_millis)).await;
        Ok(Response::new(v1::LocateReply { learner: learner.map(Into::into) }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let caller = Caller::of(&request);
        let v1::RenewRequest { claim, report } = request.into_inner();
        let claim = Claim::from(claim.ok_or(WireError::Missing { field: "claim" })?);
        self.heard(caller.worker.unwrap_or(claim.worker), caller, report)?;
        let result = self.handle.renew(claim).await.map_err(stopped)?;
        Ok(Response::new(v1::RenewReply { held: held(result)? }))
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Result<Response<v1::CompleteReply>, Status> {
        let caller = Caller::of(&request);
        let v1::CompleteRequest { claim, outcome, report } = request.into_inner();
        let claim = Claim::from(claim.ok_or(WireError::Missing { field: "claim" })?);
        let outcome = LeaseOutcome::from_wire(outcome)?;
        self.heard(caller.worker.unwrap_or(claim.worker), caller, report)?;
        let result = self.handle.end(claim, outcome).await.map_err(stopped)?;
        Ok(Response::new(v1::CompleteReply { held: held(result)? }))
    }

    async fn advance(&self, request: Request<v1::AdvanceRequest>) -> Result<Response<v1::AdvanceReply>, Status> {
        let mut request = request.into_inner();
        let place = match std::mem::take(&mut request.address) {
            address if address.is_empty() => None,
            address => Some(LearnerPlace::try_from(v1::LearnerPlace { address, incarnation: request.learner })?),
        };
        let activity = request.activity.take().map(LearnerActivity::try_from).transpose()?;
        let report = Report { position: LearnerReport::try_from(request)?, place, activity };
        self.handle.report(report).await.map_err(stopped)?.map_err(refused)?;
        Ok(Response::new(v1::AdvanceReply {}))
    }
}
