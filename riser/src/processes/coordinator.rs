//! The coordinator as a process of its own.

use super::credentials::Credentials;
use super::{listen, starts};
use crate::run_folder::RunFolder;
use crate::{output, reinforcement};
use anyhow::Context;
use riser::joining;
use riser_coordinator::Counts;
use riser_coordinator::reception::{Reception, Strangers};
use riser_core::config::RunConfig;
use riser_core::data_folder::DataFolder;
use riser_policy::parameters::Parameters;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Numbers that workers get from one start of the coordinator to the next.
const WORKERS_PER_START: u64 = 100_000;

/// Name of the count of starts.
const STARTS: &str = "starts";

/// A worker says something at least this often, however long its lease is.
const LONGEST_QUESTION: Duration = Duration::from_secs(20);

/// Runs the coordinator until the run is over or `stop`.
pub(crate) fn run(
    config: &RunConfig,
    data: &Arc<DataFolder>,
    start: Parameters,
    folder: &RunFolder,
    stop: CancellationToken,
) -> anyhow::Result<Counts> {
    let cluster = &config.cluster;
    let digest = joining::run_digest(config, data.digest(), start.digest()?);
    let credentials = Credentials::of_role(cluster, "coordinator")?;
    let schedule = reinforcement::schedule(config)?;
    let prompts = Box::new(reinforcement::prompts(config, data)?);
    let description = joining::describe(config, digest, start.shape());
    // Only its digest and its shape were needed.
    drop(start);
    let number = starts::count(&folder.path().join(STARTS))?;
    let reception = Reception {
        access: credentials.access(digest),
        strangers: Some(Strangers {
            description,
            first_worker: (number - 1).saturating_mul(WORKERS_PER_START) + 1,
            max_workers: cluster.max_workers,
            silence: schedule.lease_timeout.max(2 * LONGEST_QUESTION),
        }),
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let (incoming, bound) = listen(cluster.coordinator.listen, "cluster.coordinator.listen")?;
        output::note(format!("coordinator of run {} listens on {bound}", digest.short()));
        let serving = riser_coordinator::serve(schedule, config.seed, prompts, data.tree(), reception, incoming, stop);
        Ok(Box::pin(serving).await?)
    })
}
