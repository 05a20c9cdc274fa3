//! `riser coordinator`: the schedule of a run on several hosts.

use crate::cli::{Format, cluster::Coordinator};
use crate::run_folder::{COORDINATOR, RunFolder};
use crate::{interrupt, metrics_endpoint, output, processes, start};

/// Runs the coordinator to the end of the run and prints what became of the leases.
pub(crate) fn run(arguments: &Coordinator, format: Format) -> anyhow::Result<()> {
    let config = arguments.settings.resolve()?;
    let cluster = &config.cluster;
    let token = cluster.metrics_token_file.as_deref();
    metrics_endpoint::open(cluster.coordinator.metrics, "cluster.coordinator.metrics", token)?;
    let (data, reference) = start::reinforcement(&config)?;
    let folder = arguments.out.join(COORDINATOR);
    let run = RunFolder::open(&folder, COORDINATOR, &config, data.digest(), Some(reference.digest()?))?;
    let stop = interrupt::token_saying("workers keep their leases and wait for the next coordinator")?;
    let counts = processes::coordinator::run(&config, &data, reference, &run, stop.clone())?;
    if stop.is_cancelled() {
        return Err(super::interrupted());
    }
    match format {
        Format::Json => output::json(&counts),
        Format::Text => output::data(format!(
            "the run is over: {} leases granted, {} completed, {} given back, {} expired\n",
            counts.granted, counts.completed, counts.released, counts.expired
        )),
    }
}
