//! The worker as a process of its own: it joins, follows the learner wherever it goes, and leaves.

use super::credentials::Credentials;
use super::refusal;
use super::relay::{self, RelayFace};
use crate::{metrics_endpoint, output};
use anyhow::Context;
use riser::joining;
use riser_core::config::HostPort;
use riser_proto::access::role::Role;
use riser_proto::call::{Patience, within};
use riser_proto::channel::{Channel, Redirect};
use riser_proto::join::{JoinReply, LearnerPlace, Welcome};
use riser_proto::lease::millis;
use riser_proto::{transport, v1};
use riser_rollout_worker::catalog::Sources;
use riser_rollout_worker::{Ending, Summary, WorkerConfig, WorkerError, WorkerPlace};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::server::TcpIncoming;

/// How long one question may stay open.
const WAIT: Duration = Duration::from_secs(15);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

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

/// Works until the run is over or `drain`.
pub(crate) fn run(door: &Door, drain: &CancellationToken) -> anyhow::Result<Summary> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let (incoming, place) = door.relay.as_ref().map(RelayFace::open).transpose()?.unzip();
        let joined = Box::pin(drain.run_until_cancelled(join(door, place))).await;
        match joined.transpose()?.flatten() {
            Some(welcome) => Box::pin(work(door, incoming, welcome, drain)).await,
            None => Ok(Summary::default()),
        }
    })
}

/// Asks until there is a learner to work for; `None` if the run is over. Policies are handed on at `relay`.
async fn join(door: &Door, relay: Option<HostPort>) -> anyhow::Result<Option<Welcome>> {
    let channel = Channel::from(door.credentials.connect(&door.coordinator, Role::Coordinator)?)
        .with_pass(door.credentials.pass());
    let client = transport::coordinator_client(channel);
    let patience = Patience::lasting(door.patience);
    output::note(format!("joining at {}", door.coordinator));
    let relay = relay.map(String::from).unwrap_or_default();
    loop {
        let call = || {
            let mut client = client.clone();
            let request = v1::JoinRequest { name: name(), wait_millis: millis(WAIT), relay: relay.clone() };
            async move { client.join(request).await }
        };
        let reply = patience.retry(call).await.map_err(|status| refused(&door.coordinator, &status))?;
        match JoinReply::try_from(reply).context("the coordinator's answer cannot be true")? {
            JoinReply::Welcome(welcome) => return Ok(Some(*welcome)),
            JoinReply::Wait => {}
            JoinReply::Done => return Ok(None),
        }
    }
}

async fn work(
    door: &Door,
    relay: Option<TcpIncoming>,
    welcome: Welcome,
    drain: &CancellationToken,
) -> anyhow::Result<Summary> {
    let Welcome { worker, run, learner, parent } = welcome;
    metrics_endpoint::introduce("worker", run.run);
    let samplers = Arc::new(joining::samplers(&run)?);
    let pass = door.credentials.pass().with_run(run.run).with_worker(worker);
    let coordinator =
        Channel::from(door.credentials.connect(&door.coordinator, Role::Coordinator)?).with_pass(pass.clone());
    let (channel, redirect) = Channel::redirectable(connect(door, &learner)?);
    let mut config = WorkerConfig::new(worker);
    config.patience = Patience::lasting(door.patience);
    config.lease_wait = WAIT;
    output::note(format!("worker {worker} of run {}, learner at {}", run.run.short(), learner.address));

    let mut place = WorkerPlace { catalog: door.catalog.clone(), ..WorkerPlace::default() };
    if let Some(parent) = &parent {
        output::note(format!("policies come from the worker at {parent}"));
        let channel = door.credentials.connect_to_relay(parent)?;
        place.parent = Some(Channel::from(channel).with_pass(pass.clone()));
    }
    let _serving = relay.map(|incoming| relay::serve(incoming, place.shelf.subscribe(), &door.credentials, run.run));
    let ending = Ending { drain: drain.clone(), ..Ending::default() };
    let working =
        riser_rollout_worker::run_at(place, config, coordinator.clone(), channel.with_pass(pass), samplers, ending);
    let ended = tokio::select! {
        ended = working => ended.map_err(|error| reason(door, error)),
        lost = follow(door, coordinator.clone(), learner, redirect) => Err(lost),
    };
    if drain.is_cancelled() {
        let mut client = transport::coordinator_client(coordinator);
        // A coordinator that is away notices by itself.
        let _ = within(GOODBYE, client.leave(v1::LeaveRequest { worker: worker.0 })).await;
    }
    ended
}

/// Leads the channel to the learner wherever the coordinator says that it is; ends only with an error.
async fn follow(door: &Door, coordinator: Channel, mut learner: LearnerPlace, redirect: Redirect) -> anyhow::Error {
    let client = transport::coordinator_client(coordinator);
    let patience = Patience::lasting(door.patience);
    loop {
        let known = learner.incarnation.0;
        let call = || {
            let mut client = client.clone();
            async move { client.locate(v1::LocateRequest { known, wait_millis: millis(WAIT) }).await }
        };
        let found = match patience.retry(call).await {
            Ok(reply) => reply.learner,
            Err(status) => return refused(&door.coordinator, &status),
        };
        let Some(place) = found.and_then(|place| LearnerPlace::try_from(place).ok()) else { continue };
        if place == learner {
            continue;
        }
        match connect(door, &place) {
            Ok(channel) => redirect.to(channel),
            Err(error) => return error,
        }
        output::note(format!("learner {} is at {}", place.incarnation, place.address));
        learner = place;
    }
}

fn connect(door: &Door, learner: &LearnerPlace) -> anyhow::Result<tonic::transport::Channel> {
    door.credentials.connect(&learner.address.parse()?, Role::Learner)
}

fn refused(coordinator: &HostPort, status: &Status) -> anyhow::Error {
    refusal::of(&format!("coordinator at {coordinator}"), status)
}

fn reason(door: &Door, error: WorkerError) -> anyhow::Error {
    match error {
        WorkerError::Coordinator(status) => refused(&door.coordinator, &status),
        WorkerError::Learner(status) => refusal::of("learner", &status),
        other => other.into(),
    }
}

/// The host and process, for the coordinator's log.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}
