//! `riser health`: what a probe of a container asks.

use crate::cli::{Format, cluster::Health};
use crate::output;
use crate::processes::credentials::{self, Credentials};
use anyhow::{Context, anyhow};
use riser_proto::access::role::Role;
use riser_proto::channel::Channel;
use riser_proto::{call, health};
use std::time::Duration;

/// Asks once and prints the answer; everything but readiness is a failure.
pub(crate) fn run(arguments: &Health, format: Format) -> anyhow::Result<()> {
    let Health { server, certificates, alive, timeout } = arguments;
    let files = certificates.files();
    let address = credentials::address_of(server, files.is_some())?;
    // Nothing secret is sent, so another machine may be asked without encryption.
    let credentials = Credentials::new(files, None, Role::Watcher, true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.context("cannot start the runtime")?.block_on(async {
        let channel = Channel::from(credentials.connect_to_any(&address)?);
        let answer = health::is_serving(channel, Duration::from_secs(*timeout)).await;
        answer.map_err(|status| anyhow!("{address} does not answer: {}", call::explain(&status)))
    });
    let is_serving = answer?;
    match format {
        Format::Json => output::json(&serde_json::json!({ "serving": is_serving }))?,
        Format::Text => output::data(if is_serving { "serving\n" } else { "not serving yet\n" })?,
    }
    if is_serving || *alive { Ok(()) } else { Err(anyhow!("{address} is not ready")) }
}
