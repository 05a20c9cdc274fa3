//! Catalogs in the object store: the coordinator puts them there, workers may take them from there.

use crate::output;
use riser::roles::RunCatalogs;
use riser_coordinator::catalogs::{CatalogSource, OpenedCatalog};
use riser_coordinator::prompts::SourceError;
use riser_core::catalog::plan::Era;
use riser_core::digest::Digest;
use riser_proto::catalog::CatalogFile;
use riser_rollout_worker::catalog::{Mirror, Mirrored};
use riser_store::{DurableStore, StoreError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Folder below the store's URL, shared by all runs there: a chunk is named by what is in it.
const FOLDER: &str = "catalogs";

/// The chunks below a store's URL.
#[derive(Debug)]
pub(crate) struct StoredChunks(DurableStore);

impl StoredChunks {
    /// The chunks in `store`.
    pub(crate) fn within(store: &DurableStore) -> Self {
        Self(store.within(FOLDER))
    }

    /// Puts the chunks of `file` there that are not there yet. A store that refuses is noted: workers ask the coordinator.
    async fn keep(&self, file: CatalogFile) {
        let catalog = file.manifest().catalog().short();
        let put = async {
            for (digest, bytes) in file.chunks() {
                self.0.put_chunk(digest, bytes).await?;
            }
            Ok::<_, StoreError>(())
        };
        match put.await {
            Ok(()) => output::note(format!("catalog {catalog} is in the store")),
            Err(error) => output::note(format!("warning: catalog {catalog} is not in the store: {error}")),
        }
    }
}

/// The catalogs of a run, each put into the store when it is opened.
pub(crate) struct StoredCatalogs {
    /// Where they come from.
    pub(crate) catalogs: RunCatalogs,
    /// Where they are put, on `runtime`.
    pub(crate) store: Option<Arc<StoredChunks>>,
    /// Beside the run, which needs nothing of it; what is under way ends with the runtime.
    pub(crate) runtime: Handle,
}

impl StoredCatalogs {
    /// Puts `file` into the store, if there is one.
    pub(crate) fn keep(&self, file: &CatalogFile) {
        if let Some(store) = self.store.clone() {
            let file = file.clone();
            self.runtime.spawn(async move { store.keep(file).await });
        }
    }
}

impl CatalogSource for StoredCatalogs {
    fn open(&self, era: &Era) -> Result<OpenedCatalog, SourceError> {
        let opened = CatalogSource::open(&self.catalogs, era)?;
        self.keep(&opened.file);
        Ok(opened)
    }
}

impl Mirror for StoredChunks {
    fn chunk(&self, digest: Digest, len: u64) -> Pin<Box<dyn Future<Output = Mirrored> + Send + '_>> {
        Box::pin(async move { Ok(self.0.chunk(digest, len).await?) })
    }
}
