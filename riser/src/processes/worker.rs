//! The worker as a process of its own: its connections, and what it says to people.

use super::credentials::Credentials;
use super::refusal;
use super::relay::{self, RelayFace};
use crate::{metrics_endpoint, output};
use anyhow::Context;
use riser::joining;
use riser_core::config::HostPort;
use riser_proto::access::role::Role;
use riser_proto::call::Patience;
use riser_proto::join::{LearnerPlace, Welcome};
use riser_rollout_worker::catalog::Sources;
use riser_rollout_worker::member::{Member, MemberError, Ways};
use riser_rollout_worker::{Summary, WorkerError, WorkerPlace};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;

/// Where the run is and how it is joined.
pub(crate) struct Door {
    /// The coordinator.
    pub(crate) coordinator: HostPort,
    /// What is shown there.
    pub(crate) credentials: Credentials,
    /// How long a peer that is away is tried again.
    pub(crate) patience: Duration,
    /// Where policies are handed on, if they are.
    pub(crate) relay: Option<RelayFace>,
    /// Where the catalog may be found besides there.
    pub(crate) catalog: Sources,
}

impl Ways for &Door {
    type Error = anyhow::Error;

    fn to_coordinator(&self) -> anyhow::Result<Channel> {
        self.credentials.connect(&self.coordinator, Role::Coordinator)
    }

    fn to_learner(&self, place: &LearnerPlace) -> anyhow::Result<Channel> {
        output::note(format!("learner {} is at {}", place.incarnation, place.address));
        self.credentials.connect(&place.address.parse()?, Role::Learner)
    }

    fn to_relay(&self, address: &HostPort) -> anyhow::Result<Channel> {
        output::note(format!("policies come from the worker at {address}"));
        self.credentials.connect_to_relay(address)
    }
}

/// Works until the run is over or `drain`.
pub(crate) fn run(door: &Door, drain: &CancellationToken) -> anyhow::Result<Summary> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let (pass, patience) = (door.credentials.pass(), Patience::lasting(door.patience));
    let member = Member { ways: door, pass, name: name(), patience };
    runtime.block_on(async {
        let (incoming, place) = door.relay.as_ref().map(RelayFace::open).transpose()?.unzip();
        output::note(format!("joining at {}", door.coordinator));
        let joined = Box::pin(drain.run_until_cancelled(member.join(place.as_ref()))).await;
        match joined.transpose().map_err(|error| reason(door, error))?.flatten() {
            Some(welcome) => Box::pin(work(door, &member, incoming, welcome, drain)).await,
            None => Ok(Summary::default()),
        }
    })
}

async fn work(
    door: &Door,
    member: &Member<&Door>,
    relay: Option<TcpIncoming>,
    welcome: Welcome,
    drain: &CancellationToken,
) -> anyhow::Result<Summary> {
    let run = &welcome.run;
    metrics_endpoint::introduce("worker", run.run);
    let samplers = Arc::new(joining::samplers(run)?);
    output::note(format!("worker {} of run {}", welcome.worker, run.run.short()));
    let place = WorkerPlace { catalog: door.catalog.clone(), ..WorkerPlace::default() };
    let _serving = relay.map(|incoming| relay::serve(incoming, place.shelf.subscribe(), &door.credentials, run.run));
    member.work(welcome, place, samplers, drain).await.map_err(|error| reason(door, error))
}

fn refused(coordinator: &HostPort, status: &Status) -> anyhow::Error {
    refusal::of(&format!("coordinator at {coordinator}"), status)
}

fn reason(door: &Door, error: MemberError<anyhow::Error>) -> anyhow::Error {
    match error {
        MemberError::Worker(WorkerError::Coordinator(status)) => refused(&door.coordinator, &status),
        MemberError::Worker(WorkerError::Learner(status)) => refusal::of("learner", &status),
        MemberError::Worker(other) => other.into(),
        MemberError::Unreachable(error) => error,
    }
}

/// The host and process, for the coordinator's log.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}
