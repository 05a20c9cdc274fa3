//! Fetching the catalog: chunks that are in the host's cache are taken from there, the others from a mirror if there is one,
//! and what is not there either from the coordinator.
//!
//! Chunks are asked for side by side and put together in order. One that arrived and is right is in the cache at once, so a
//! transfer that was cut off anywhere goes on where it was. A cache whose disk refuses costs a warning and the next transfer,
//! a mirror that fails a warning and the coordinator's time.

use crate::{WorkerConfig, WorkerError};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use riser_core::{
    catalog::{Assembly, AssemblyError, CatalogCache, CatalogManifest, Chunk},
    digest::Digest,
    prefix_tree::PrefixTree,
};
use riser_proto::{
    WireError,
    call::Patience,
    catalog,
    offload::offload,
    transport::{self, Channel},
    v1::catalog_client::CatalogClient,
};
use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Chunks on their way at one time.
const IN_FLIGHT: usize = 8;

/// Times that a chunk may come damaged before the coordinator is not believed any more.
const MAX_DAMAGED: usize = 3;

/// Another place that has chunks, for example an object store.
pub trait Mirror: fmt::Debug + Send + Sync {
    /// The chunk of that digest and size; `None` if it is not there. It is verified by whoever asked.
    ///
    /// # Errors
    /// Whatever keeps it from answering; it is not asked again during this transfer.
    fn chunk(&self, digest: Digest, len: u64) -> Pin<Box<dyn Future<Output = Mirrored> + Send + '_>>;
}

/// A mirror's answer.
pub type Mirrored = Result<Option<Bytes>, Box<dyn std::error::Error + Send + Sync>>;

/// Where chunks may be found besides with the coordinator.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Catalogs of earlier runs and of other workers on this host.
    pub cache: Option<CatalogCache>,
    /// Asked before the coordinator.
    pub mirror: Option<Arc<dyn Mirror>>,
}

/// A catalog and what it cost.
#[derive(Debug)]
pub struct Fetched {
    /// The catalog.
    pub tree: PrefixTree,
    /// Bytes of chunks that came from the coordinator.
    pub bytes: u64,
}

/// One transfer of one catalog.
struct Transfer {
    client: CatalogClient<Channel>,
    patience: Patience,
    manifest: Arc<CatalogManifest>,
    sources: Sources,
    /// Set once the cache's disk has refused something.
    disk_failed: AtomicBool,
    /// Set once the mirror has not answered.
    mirror_failed: AtomicBool,
    fetched: AtomicU64,
}

/// The catalog of that digest, or without one the catalog that the run has now, from `sources` as far as it is there.
///
/// # Errors
/// [`WorkerError::Coordinator`] if it stays away, [`WorkerError::Wire`] and [`WorkerError::Catalog`] if it is not to be
/// believed.
pub async fn fetch(
    config: &WorkerConfig,
    coordinator: Channel,
    sources: Sources,
    wanted: Option<Digest>,
) -> Result<Fetched, WorkerError> {
    let client = transport::catalog_client(coordinator);
    let ask = || {
        let (mut client, request) = (client.clone(), catalog::description(wanted));
        async move { client.describe(request).await }
    };
    let described = config.patience.retry(ask).await.map_err(WorkerError::Coordinator)?;
    let manifest = Arc::new(catalog::manifest(&described, config.max_catalog_bytes).map_err(untrue)?);
    if let Some(announced) = wanted.filter(|wanted| *wanted != manifest.catalog()) {
        return Err(untrue(WireError::Mismatch { what: "catalog".to_owned(), got: manifest.catalog(), announced }));
    }
    let (patience, disk_failed, mirror_failed) = (config.patience, AtomicBool::new(false), AtomicBool::new(false));
    let fetched = AtomicU64::new(0);
    let transfer = Transfer { client, patience, manifest, sources, disk_failed, mirror_failed, fetched };
    let tree = transfer.tree().await?;
    let bytes = transfer.fetched.into_inner();
    let (digest, total) = (tree.digest(), transfer.manifest.total_bytes());
    tracing::info!(worker = config.id.0, catalog = digest.short(), total, fetched = bytes, "catalog is here");
    Ok(Fetched { tree, bytes })
}

impl Transfer {
    async fn tree(&self) -> Result<PrefixTree, WorkerError> {
        let manifest = self.manifest.clone();
        if let Some(cache) = self.sources.cache.clone() {
            let (wanted, place) = (manifest.clone(), cache.clone());
            if let Some(tree) = blocking(move || place.tree(&wanted)).await? {
                return Ok(tree);
            }
            let wanted = manifest.clone();
            let assembled = match blocking(move || Assembly::in_cache(wanted, cache)).await? {
                Ok(assembly) => self.assemble(assembly).await,
                Err(error) => Err(AssemblyError::from(error).into()),
            };
            match assembled {
                Err(WorkerError::Catalog(AssemblyError::Disk(error))) => self.warn(&error),
                other => return other,
            }
        }
        self.assemble(Assembly::in_memory(manifest)).await
    }

    async fn assemble(&self, mut assembly: Assembly) -> Result<PrefixTree, WorkerError> {
        let chunks = stream::iter(0..self.manifest.num_chunks()).map(|index| self.chunk(index));
        let mut chunks = chunks.buffered(IN_FLIGHT);
        while let Some(chunk) = chunks.try_next().await? {
            assembly = blocking(move || assembly.push(&chunk)).await?.map_err(AssemblyError::from)?;
        }
        Ok(blocking(move || assembly.finish()).await??)
    }

    /// A chunk that has been verified.
    async fn chunk(&self, index: usize) -> Result<Bytes, WorkerError> {
        let Some(cache) = self.sources.cache.clone() else { return self.obtain(index).await };
        let (manifest, place) = (self.manifest.clone(), cache.clone());
        if let Some(bytes) = blocking(move || place.chunk(&manifest, index)).await? {
            return Ok(bytes.into());
        }
        let bytes = self.obtain(index).await?;
        if !self.disk_failed.load(Ordering::Relaxed) {
            let (digest, copy) = (self.manifest.chunk(index).digest, bytes.clone());
            if let Err(error) = blocking(move || cache.put(digest, &copy)).await? {
                self.warn(&error);
            }
        }
        Ok(bytes)
    }

    /// A chunk that is not in the cache.
    async fn obtain(&self, index: usize) -> Result<Bytes, WorkerError> {
        if let Some(mirror) = self.sources.mirror.as_ref().filter(|_| !self.mirror_failed.load(Ordering::Relaxed)) {
            let Chunk { digest, range } = self.manifest.chunk(index);
            match mirror.chunk(digest, range.end - range.start).await {
                Ok(Some(bytes)) => match self.manifest.verify(index, &bytes) {
                    Ok(()) => return Ok(bytes),
                    Err(error) => tracing::warn!(?mirror, %error, "chunk in the mirror is damaged"),
                },
                Ok(None) => {}
                Err(error) => {
                    if !self.mirror_failed.swap(true, Ordering::Relaxed) {
                        tracing::warn!(?mirror, error, "mirror is left alone");
                    }
                }
            }
        }
        self.ask_for(index).await
    }

    /// Asks the coordinator until a chunk comes as it should be.
    async fn ask_for(&self, index: usize) -> Result<Bytes, WorkerError> {
        let request = catalog::request(self.manifest.chunk(index).digest);
        let ask = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.fetch(request).await }
        };
        let mut damaged = 0;
        loop {
            let data = self.patience.retry(ask).await.map_err(WorkerError::Coordinator)?.data;
            self.fetched.fetch_add(data.len() as u64, Ordering::Relaxed);
            match self.manifest.verify(index, &data) {
                Ok(()) => return Ok(data),
                Err(error) if damaged + 1 < MAX_DAMAGED => {
                    tracing::warn!(%error, "asked for again");
                    damaged += 1;
                }
                Err(error) => return Err(untrue(error.into())),
            }
        }
    }

    fn warn(&self, error: &io::Error) {
        if !self.disk_failed.swap(true, Ordering::Relaxed) {
            let folder = self.sources.cache.as_ref().map(|cache| cache.folder().display().to_string());
            tracing::warn!(folder, %error, "the catalog is not cached");
        }
    }
}

fn untrue(source: WireError) -> WorkerError {
    WorkerError::Wire { peer: "coordinator", source }
}

/// Runs what waits for a disk or a digest on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorkerError> {
    offload(work).await.map_err(WorkerError::panicked)
}
