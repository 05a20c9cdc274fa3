//! `riser worker`: one more worker for a run on several hosts.

use crate::cli::Format;
use crate::cli::cluster::{Store, Worker};
use crate::processes::catalog_store::StoredChunks;
use crate::processes::relay::RelayFace;
use crate::processes::worker::{self, Door};
use crate::processes::{cache, credentials};
use crate::{interrupt, metrics_endpoint, object_store, output};
use riser_core::config::StoreConfig;
use riser_proto::access::role::Role;
use riser_rollout_worker::catalog::{Mirror, Sources};
use std::sync::Arc;
use std::time::Duration;

/// Seconds after which a store that says nothing is left alone: the coordinator has everything too.
const STORE_PATIENCE: u64 = 10;

/// Works until the run is over or a signal asks for the end, and prints what was done.
pub(crate) fn run(arguments: &Worker, format: Format) -> anyhow::Result<()> {
    let Worker { contact, patience, relay, relay_advertise, metrics, metrics_token_file, cache, store } = arguments;
    metrics_endpoint::open(*metrics, "--metrics", metrics_token_file.as_deref())?;
    let (coordinator, credentials) = credentials::of_contact(contact, Role::Worker)?;
    let catalog = Sources { cache: cache::open(cache)?, mirror: mirror(store)? };
    let relay = relay.map(|listen| RelayFace::new(listen, relay_advertise.clone(), &credentials)).transpose()?;
    let door = Door { coordinator, credentials, patience: Duration::from_secs(*patience), relay, catalog };
    let drain = interrupt::token_saying("the lease in hand is finished")?;
    let summary = worker::run(&door, &drain)?;
    match format {
        Format::Json => output::json(&serde_json::json!({
            "leases": summary.leases, "groups": summary.groups, "catalog_bytes": summary.catalog_bytes
        })),
        Format::Text => output::data(format!("{} leases with {} groups delivered\n", summary.leases, summary.groups)),
    }
}

fn mirror(Store { url, endpoint, region }: &Store) -> anyhow::Result<Option<Arc<dyn Mirror>>> {
    let (url, endpoint, region) = (url.clone(), endpoint.clone(), region.clone());
    let config = StoreConfig { url, endpoint, region, patience_seconds: STORE_PATIENCE, ..StoreConfig::default() };
    let store = object_store::connect(&config, "--store")?;
    Ok(store.map(|store| Arc::new(StoredChunks::within(&store)) as Arc<dyn Mirror>))
}
