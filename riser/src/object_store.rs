//! From the configuration to an object store.

use crate::failure::{Hint, Usage};
use riser_core::config::StoreConfig;
use riser_store::durable::Transfer;
use riser_store::{DurableStore, Location, StoreError};
use std::time::Duration;

/// Environment variables with these beginnings are settings and credentials of an object store.
const VENDORS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// The store of `config`, whose URL was given as `key`; `None` if there is no URL.
///
/// # Errors
/// [`Usage`] for what is not the URL of a store, or a store that cannot be spoken to with these settings.
pub(crate) fn connect(config: &StoreConfig, key: &str) -> anyhow::Result<Option<DurableStore>> {
    let Some(url) = &config.url else { return Ok(None) };
    let is_ours = |(name, _): &(String, String)| VENDORS.iter().any(|vendor| name.starts_with(vendor));
    let text = |text: std::ffi::OsString| text.into_string().ok();
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
    let location = Location {
        url: url.clone(),
        endpoint: config.endpoint.clone(),
        region: config.region.clone(),
        options: environment.filter(is_ours).collect(),
        transfer: Transfer { patience: Duration::from_secs(config.patience_seconds), ..Transfer::default() },
    };
    let store = match DurableStore::connect(&location) {
        Err(error @ (StoreError::Url { .. } | StoreError::Scheme { .. })) => {
            return Err(Usage(format!("`{key}`: {error}"))).hint(|| {
                "write `s3://BUCKET/PREFIX` or `file:///FOLDER`; other stores need `cargo build --features gcs,azure`"
                    .to_owned()
            });
        }
        store => store.hint(|| "credentials come from the environment, for example AWS_ACCESS_KEY_ID".to_owned())?,
    };
    Ok(Some(store))
}
