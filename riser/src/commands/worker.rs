//! `riser worker`: one more worker for a run on several hosts.

use crate::cli::{Format, cluster::Worker};
use crate::processes::credentials;
use crate::processes::worker::{self, Door};
use crate::{interrupt, metrics_endpoint, output};
use std::time::Duration;

/// Works until the run is over or a signal asks for the end, and prints what was done.
pub(crate) fn run(arguments: &Worker, format: Format) -> anyhow::Result<()> {
    metrics_endpoint::open(arguments.metrics, "--metrics")?;
    let (coordinator, credentials) = credentials::of_contact(&arguments.contact)?;
    let door = Door { coordinator, credentials, patience: Duration::from_secs(arguments.patience) };
    let drain = interrupt::token_saying("the lease in hand is finished")?;
    let summary = worker::run(&door, &drain)?;
    match format {
        Format::Json => output::json(&serde_json::json!({ "leases": summary.leases, "groups": summary.groups })),
        Format::Text => output::data(format!("{} leases with {} groups delivered\n", summary.leases, summary.groups)),
    }
}
