//! `riser worker`: one more worker for a run on several hosts.

use crate::cli::{Format, cluster::Worker};
use crate::processes::credentials::{self, Credentials};
use crate::processes::worker::{self, Door};
use crate::{interrupt, output};
use std::time::Duration;

/// Works until the run is over or a signal asks for the end, and prints what was done.
pub(crate) fn run(arguments: &Worker, format: Format) -> anyhow::Result<()> {
    let Worker { coordinator, token_file, certificates, plaintext, patience } = arguments;
    let files = certificates.files();
    let door = Door {
        coordinator: credentials::address_of(coordinator, files.is_some())?,
        credentials: Credentials::new(files, token_file.as_deref(), *plaintext)?,
        patience: Duration::from_secs(*patience),
    };
    let drain = interrupt::token_saying("the lease in hand is finished")?;
    let summary = worker::run(&door, &drain)?;
    match format {
        Format::Json => output::json(&serde_json::json!({ "leases": summary.leases, "groups": summary.groups })),
        Format::Text => output::data(format!("{} leases with {} groups delivered\n", summary.leases, summary.groups)),
    }
}
