//! The cache of catalogs that the workers of a host share.

use crate::cli::cluster::Cache;
use crate::failure::{Hint, Usage};
use crate::{clock, output};
use etcetera::BaseStrategy;
use riser_core::catalog::CatalogCache;
use std::path::Path;

/// The cache that was asked for. One that nobody chose and that cannot be had is done without.
pub(crate) fn open(arguments: &Cache) -> anyhow::Result<Option<CatalogCache>> {
    if arguments.off {
        return Ok(None);
    }
    let max_bytes = arguments.mebibytes.saturating_mul(1 << 20);
    let open = |folder: &Path| CatalogCache::open(folder, max_bytes, clock::now);
    if let Some(folder) = &arguments.folder {
        let cache = open(folder)
            .map_err(|error| Usage(format!("cannot use `--cache {}`: {error}", folder.display())))
            .hint(|| "give a folder that can be written, or --no-cache".to_owned())?;
        return Ok(Some(cache));
    }
    let usual =
        etcetera::base_strategy::choose_native_strategy().map_err(|error| error.to_string()).and_then(|strategy| {
            let folder = strategy.cache_dir().join("riser");
            open(&folder).map_err(|error| format!("{}: {error}", folder.display()))
        });
    match usual {
        Ok(cache) => Ok(Some(cache)),
        Err(reason) => {
            output::note(format!("warning: the catalog will not be cached: {reason}"));
            Ok(None)
        }
    }
}
