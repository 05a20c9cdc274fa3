//! Asking a coordinator how its run stands.

use super::credentials::Credentials;
use super::refusal;
use anyhow::Context;
use riser_core::cluster_status::ClusterStatus;
use riser_core::config::HostPort;
use riser_proto::access::role::Role;
use riser_proto::call::within;
use riser_proto::channel::Channel;
use riser_proto::v1::watch_client::WatchClient;
use riser_proto::{transport, v1};
use std::time::Duration;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The way to a coordinator; used inside a runtime.
pub(crate) struct Watcher {
    coordinator: HostPort,
    client: WatchClient<Channel>,
}

impl Watcher {
    /// A watcher of the run at `coordinator`; the connection is made when it first asks.
    pub(crate) fn new(coordinator: HostPort, credentials: &Credentials) -> anyhow::Result<Self> {
        let channel =
            Channel::from(credentials.connect(&coordinator, Role::Coordinator)?).with_pass(credentials.pass());
        Ok(Self { coordinator, client: transport::watch_client(channel) })
    }

    /// The run at this moment.
    pub(crate) async fn status(&mut self) -> anyhow::Result<ClusterStatus> {
        let reply = within(DEADLINE, self.client.status(v1::StatusRequest {})).await;
        let reply = reply.map_err(|status| refusal::of(&format!("coordinator at {}", self.coordinator), &status))?;
        ClusterStatus::try_from(reply.into_inner()).context("the coordinator's answer cannot be true")
    }
}
