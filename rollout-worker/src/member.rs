//! A worker of a run that it has to join: it asks to be let in, follows the learner wherever it goes, and leaves.
//!
//! How connections are made is the program's own business, which [`Ways`] says.

use crate::{Ending, SamplerFactory, Summary, WorkerConfig, WorkerError, WorkerPlace, run_at};
use riser_core::config::HostPort;
use riser_proto::{
    call::{Patience, within},
    channel::{Channel, Pass, Redirect},
    join::{JoinReply, LearnerPlace, Welcome},
    lease::millis,
    transport, v1,
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel as Connection;

/// How long one question may stay open.
const WAIT: Duration = Duration::from_secs(15);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// How peers are reached; each connection is made when it is first used.
pub trait Ways: Sync {
    /// Why a peer cannot be reached whatever is tried, for example an address that makes no sense.
    type Error: Send;

    /// The way to the coordinator.
    ///
    /// # Errors
    /// Its own.
    fn to_coordinator(&self) -> Result<Connection, Self::Error>;

    /// The way to a learner.
    ///
    /// # Errors
    /// Its own.
    fn to_learner(&self, place: &LearnerPlace) -> Result<Connection, Self::Error>;

    /// The way to a worker that hands policies on.
    ///
    /// # Errors
    /// Its own.
    fn to_relay(&self, address: &HostPort) -> Result<Connection, Self::Error>;
}

/// Why a member ended before the run did.
#[derive(Debug)]
pub enum MemberError<E> {
    /// As any worker does.
    Worker(WorkerError),
    /// A peer cannot be reached.
    Unreachable(E),
}

impl<E> From<WorkerError> for MemberError<E> {
    fn from(error: WorkerError) -> Self {
        Self::Worker(error)
    }
}

/// Who joins.
#[derive(Debug)]
pub struct Member<W> {
    /// How it reaches others.
    pub ways: W,
    /// What it shows them, besides the run and its number.
    pub pass: Pass,
    /// Its name, for people.
    pub name: String,
    /// Patience with coordinator and learner.
    pub patience: Patience,
}

impl<W: Ways> Member<W> {
    /// Asks until there is a learner to work for; `None` if the run is over. Policies are handed on at `relay`.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn join(&self, relay: Option<&HostPort>) -> Result<Option<Welcome>, MemberError<W::Error>> {
        let client = transport::coordinator_client(self.to_coordinator(self.pass.clone())?);
        let relay = relay.map(HostPort::to_string).unwrap_or_default();
        loop {
            let call = || {
                let mut client = client.clone();
                let (name, relay) = (self.name.clone(), relay.clone());
                async move { client.join(v1::JoinRequest { name, wait_millis: millis(WAIT), relay }).await }
            };
            let reply = self.patience.retry(call).await.map_err(WorkerError::Coordinator)?;
            let reply = JoinReply::try_from(reply);
            match reply.map_err(|source| WorkerError::Wire { peer: "coordinator", source })? {
                JoinReply::Welcome(welcome) => return Ok(Some(*welcome)),
                JoinReply::Wait => {}
                JoinReply::Done => return Ok(None),
            }
        }
    }

    /// Works at `place` as it was `welcome`d, until the run is over or `drain`; the parent in `place` is replaced.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn work(
        &self,
        welcome: Welcome,
        place: WorkerPlace,
        samplers: Arc<dyn SamplerFactory>,
        drain: &CancellationToken,
    ) -> Result<Summary, MemberError<W::Error>> {
        let Welcome { worker, run, learner, parent } = welcome;
        let pass = self.pass.clone().with_run(run.run).with_worker(worker);
        let coordinator = self.to_coordinator(pass.clone())?;
        let (channel, redirect) =
            Channel::redirectable(self.ways.to_learner(&learner).map_err(MemberError::Unreachable)?);
        let parent = parent.map(|parent| self.ways.to_relay(&parent)).transpose().map_err(MemberError::Unreachable)?;
        let parent = parent.map(|parent| Channel::from(parent).with_pass(pass.clone()));
        let place = WorkerPlace { parent, ..place };
        let config = WorkerConfig { patience: self.patience, lease_wait: WAIT, ..WorkerConfig::new(worker) };
        let ending = Ending { drain: drain.clone(), ..Ending::default() };
        let working = run_at(place, config, coordinator.clone(), channel.with_pass(pass), samplers, ending);
        let ended = tokio::select! {
            ended = Box::pin(working) => ended.map_err(MemberError::Worker),
            lost = self.follow(coordinator.clone(), learner, redirect) => Err(lost),
        };
        if drain.is_cancelled() {
            let mut client = transport::coordinator_client(coordinator);
            // A coordinator that is away notices by itself.
            let _ = within(GOODBYE, client.leave(v1::LeaveRequest { worker: worker.0 })).await;
        }
        ended
    }

    /// Leads the channel to the learner wherever the coordinator says that it is; ends only with an error.
    async fn follow(
        &self,
        coordinator: Channel,
        mut learner: LearnerPlace,
        redirect: Redirect,
    ) -> MemberError<W::Error> {
        let client = transport::coordinator_client(coordinator);
        loop {
            let known = learner.incarnation.0;
            let call = || {
                let mut client = client.clone();
                async move { client.locate(v1::LocateRequest { known, wait_millis: millis(WAIT) }).await }
            };
            let found = match self.patience.retry(call).await {
                Ok(reply) => reply.learner,
                Err(status) => return WorkerError::Coordinator(status).into(),
            };
            let Some(place) = found.and_then(|place| LearnerPlace::try_from(place).ok()) else { continue };
            if place == learner {
                continue;
            }
            match self.ways.to_learner(&place) {
                Ok(connection) => redirect.to(connection),
                Err(error) => return MemberError::Unreachable(error),
            }
            learner = place;
        }
    }

    fn to_coordinator(&self, pass: Pass) -> Result<Channel, MemberError<W::Error>> {
        let connection = self.ways.to_coordinator().map_err(MemberError::Unreachable)?;
        Ok(Channel::from(connection).with_pass(pass))
    }
}
