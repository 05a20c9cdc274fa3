//! The coordinator as a process of its own.

use super::catalog_store::StoredChunks;
use super::credentials::Credentials;
use super::listen;
use crate::run_folder::RunFolder;
use crate::{event_log, metrics_endpoint, object_store, output, reinforcement};
use anyhow::Context;
use riser::joining;
use riser_coordinator::Counts;
use riser_coordinator::reception::{Reception, Strangers};
use riser_core::config::RunConfig;
use riser_core::data_folder::DataFolder;
use riser_policy::parameters::Parameters;
use riser_proto::call::Patience;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Numbers that workers get from one start of the coordinator to the next.
const WORKERS_PER_START: u64 = 100_000;

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
    metrics_endpoint::introduce("coordinator", digest);
    let credentials = Credentials::of_role(cluster, "coordinator")?;
    let mut schedule = reinforcement::schedule(config)?;
    let prompts = Box::new(reinforcement::prompts(config, data)?);
    let description = joining::describe(config, digest, start.shape());
    // Only its digest and its shape were needed.
    drop(start);
    let (log, events, is_over) = event_log::start_coordinator(folder, &mut schedule, &stop)?;
    let starts_before = u64::from(schedule.incarnation.0.saturating_sub(1));
    // Whoever samples renews three times per timeout, whoever asked for work tries again after a pause.
    let returning = (schedule.lease_timeout / 3).max(2 * Patience::default().longest_pause);
    let reception = Reception {
        access: credentials.access(digest),
        strangers: Some(Strangers {
            description,
            first_worker: starts_before * WORKERS_PER_START + 1,
            max_workers: cluster.max_workers,
            fan_out: cluster.fan_out,
            is_over,
            silence: schedule.lease_timeout.max(2 * LONGEST_QUESTION),
            quiet: 2 * returning,
            returning: if starts_before > 0 { returning } else { Duration::ZERO },
        }),
    };
    let store = object_store::connect(&config.store, "store.url")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let counts = runtime.block_on(async {
        let (incoming, bound) = listen(cluster.coordinator.listen, "cluster.coordinator.listen")?;
        output::note(format!("coordinator of run {} listens on {bound}", digest.short()));
        let (seed, tree) = (config.seed, data.tree());
        if let Some(store) = store {
            // Beside the run, which needs nothing of it; it ends with the runtime.
            tokio::spawn(StoredChunks::within(&store).keep(tree.clone()));
        }
        let serving = riser_coordinator::serve(schedule, seed, prompts, tree, reception, incoming, events, stop);
        anyhow::Ok(Box::pin(serving).await?)
    });
    // With the runtime goes everyone who could still have something to log.
    drop(runtime);
    log.finish()?;
    counts
}
