//! Chunks of catalogs, known by their digests and shared by all runs below one URL.
//!
//! ```text
//! PREFIX/DIGEST.chunk     put only if absent, never changed
//! ```

use super::{Committed, DurableStore, StoreError};
use bytes::Bytes;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path as ObjectPath};
use riser_core::digest::Digest;

impl DurableStore {
    /// Puts a chunk under its digest if it is not there.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn put_chunk(&self, digest: Digest, bytes: Bytes) -> Result<Committed, StoreError> {
        let path = self.chunk_path(digest);
        // Objects appear whole or not at all, and only this content has this name.
        match self.patiently(&path, self.objects.head(&path)).await {
            Ok(_) => return Ok(Committed::Before),
            Err(StoreError::Object { source: Error::NotFound { .. }, .. }) => {}
            Err(error) => return Err(error),
        }
        let put = PutOptions::from(PutMode::Create);
        match self.patiently(&path, self.objects.put_opts(&path, PutPayload::from(bytes), put)).await {
            Ok(_) => Ok(Committed::Now),
            Err(StoreError::Object { source: Error::AlreadyExists { .. }, .. }) => Ok(Committed::Before),
            Err(error) => Err(error),
        }
    }

    /// A chunk of exactly `len` bytes, not verified; `None` if there is none, or one of another size.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn chunk(&self, digest: Digest, len: u64) -> Result<Option<Bytes>, StoreError> {
        let path = self.chunk_path(digest);
        let found = match self.patiently(&path, self.objects.get(&path)).await {
            Ok(found) => found,
            Err(StoreError::Object { source: Error::NotFound { .. }, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if found.meta.size != len {
            return Ok(None);
        }
        self.patiently(&path, found.bytes()).await.map(Some)
    }

    fn chunk_path(&self, digest: Digest) -> ObjectPath {
        self.prefix.clone().join(format!("{digest}.chunk"))
    }
}
