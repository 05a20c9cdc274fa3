//! Catalogs in the object store: the coordinator puts them there, workers may take them from there.

use crate::output;
use riser_core::digest::Digest;
use riser_core::prefix_tree::PrefixTree;
use riser_proto::catalog::CatalogFile;
use riser_rollout_worker::catalog::{Mirror, Mirrored};
use riser_store::{DurableStore, StoreError};
use std::future::Future;
use std::pin::Pin;

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

    /// Puts the chunks of `tree` there that are not there yet. A store that refuses is noted: workers ask the coordinator.
    pub(crate) async fn keep(self, tree: PrefixTree) {
        let catalog = tree.digest().short();
        let file = tokio::task::spawn_blocking(move || CatalogFile::new(&tree)).await;
        let Ok(file) = file else { return };
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

impl Mirror for StoredChunks {
    fn chunk(&self, digest: Digest, len: u64) -> Pin<Box<dyn Future<Output = Mirrored> + Send + '_>> {
        Box::pin(async move { Ok(self.0.chunk(digest, len).await?) })
    }
}
