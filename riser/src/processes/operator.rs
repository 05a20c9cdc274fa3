//! Asking the learner of a run for something, wherever it is.

use super::credentials::Credentials;
use super::refusal;
use super::watcher::Watcher;
use crate::failure::hinted;
use anyhow::{Context, anyhow};
use riser_core::config::HostPort;
use riser_core::digest::Digest;
use riser_proto::access::role::Role;
use riser_proto::call::{explain, within};
use riser_proto::channel::Channel;
use riser_proto::{transport, v1};
use serde::Serialize;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;
use tonic::Code;

/// How long a learner may take to open a data folder of millions of items.
const DEADLINE: Duration = Duration::from_secs(600);

const FOLDER_HINT: &str = "the folder must be there on the learner's host, prepared with the run's tokenizer and template: \
    `riser prepare ... --tokenizer DATA --min-interactions 0`";

const BATCH_HINT: &str = "batch b is the one of step b + 1; without `--from-step` the first possible one is taken";

/// What a change of catalog means.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    /// The catalog.
    pub(crate) catalog: Digest,
    /// First step that is taken with it.
    pub(crate) from_step: u64,
    /// Items that are new.
    pub(crate) added: u64,
    /// Items that went.
    pub(crate) removed: u64,
    /// Prompts that are left out because their target went.
    pub(crate) skipped: u64,
}

/// Has the run at `coordinator` go on with the items of `folder`, from step `from_step` on or from the first that is possible.
pub(crate) async fn change_catalog(
    coordinator: HostPort,
    credentials: &Credentials,
    folder: &Path,
    from_step: Option<NonZeroU64>,
) -> anyhow::Result<Changed> {
    let status = Watcher::new(coordinator, credentials)?.status().await?;
    let learner = status.learner.and_then(|learner| learner.address).context("the run has no learner yet")?;
    let address: HostPort = learner.parse().with_context(|| format!("the learner says that it is at {learner}"))?;
    let pass = status.run.into_iter().fold(credentials.pass(), |pass, run| pass.with_run(run));
    let channel = Channel::from(credentials.connect(&address, Role::Learner)?).with_pass(pass);
    let mut client = transport::operator_client(channel);
    let folder = folder.to_str().with_context(|| format!("{} is not UTF-8", folder.display()))?.to_owned();
    // Step s turns version s - 1 into version s: it is taken with batch s - 1.
    let first_batch = from_step.map(|step| step.get() - 1);
    let reply = within(DEADLINE, client.change_catalog(v1::ChangeCatalogRequest { folder, first_batch })).await;
    let reply = reply.map_err(|status| {
        let is_about_folder = status.message().starts_with('/');
        let error = anyhow!("learner at {address}: {}", explain(&status));
        match (status.code(), is_about_folder) {
            (Code::FailedPrecondition, true) => hinted(error, FOLDER_HINT),
            (Code::FailedPrecondition, false) => hinted(error, BATCH_HINT),
            _ => refusal::with_remedy(error, &status),
        }
    })?;
    let v1::ChangeCatalogReply { first_batch, catalog, added, removed, skipped } = reply.into_inner();
    let catalog = Digest::from_bytes(&catalog).context("the learner's answer cannot be true")?;
    Ok(Changed { catalog, from_step: first_batch.saturating_add(1), added, removed, skipped })
}
