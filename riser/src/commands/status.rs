//! `riser status`: how a run on several hosts stands, once.

use crate::cli::{Format, cluster::Status};
use crate::failure::Hint;
use crate::processes::{credentials, watcher::Watcher};
use crate::{output, run_status};
use anyhow::Context;
use riser_proto::access::role::Role;

/// Asks the coordinator and prints its answer.
pub(crate) fn run(arguments: &Status, format: Format) -> anyhow::Result<()> {
    let (coordinator, credentials) = credentials::of_contact(&arguments.contact, Role::Watcher)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let status = runtime.context("cannot start the runtime")?.block_on(async {
        Watcher::new(coordinator, &credentials)?
            .status()
            .await
            .hint(|| "`riser coordinator` says where it listens; it ends with its run".to_owned())
    })?;
    match format {
        Format::Json => output::json(&status),
        Format::Text => output::data(run_status::text(&status)),
    }
}
