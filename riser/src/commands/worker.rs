//! `riser worker`: one more worker for a run on several hosts.

use crate::cli::{Format, cluster::Worker};
use crate::processes::cache;
use crate::processes::credentials::{self, CertificateFiles, Credentials};
use crate::processes::worker::{self, Door};
use crate::{interrupt, output};
use std::time::Duration;

/// Works until the run is over or a signal asks for the end, and prints what was done.
pub(crate) fn run(arguments: &Worker, format: Format) -> anyhow::Result<()> {
    let Worker { coordinator, token_file, ca, cert, key, plaintext, patience, cache } = arguments;
    let files = match (ca, cert, key) {
        (Some(ca), Some(cert), Some(key)) => {
            Some(CertificateFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
        }
        _ => None,
    };
    let door = Door {
        coordinator: credentials::address_of(coordinator, files.is_some())?,
        credentials: Credentials::new(files, token_file.as_deref(), *plaintext)?,
        patience: Duration::from_secs(*patience),
        cache: cache::open(cache)?,
    };
    let drain = interrupt::token_saying("the lease in hand is finished")?;
    let summary = worker::run(&door, &drain)?;
    match format {
        Format::Json => output::json(&serde_json::json!({
            "leases": summary.leases, "groups": summary.groups, "catalog_bytes": summary.catalog_bytes
        })),
        Format::Text => output::data(format!("{} leases with {} groups delivered\n", summary.leases, summary.groups)),
    }
}
