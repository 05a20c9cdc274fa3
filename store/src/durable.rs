//! Checkpoints where the loss of the machine does not reach them: in any object store with a URL.
//!
//! ```text
//! PREFIX/
//!   step-00000040.json                     the manifest, put only if absent: the commit
//!   step-00000040/DIGEST/model.safetensors its files, in a folder named by the manifest's digest
//! ```
//!
//! The files go first, the manifest last, so whoever sees a manifest sees all it names. Two writers of one version never
//! touch each other's files; one of them commits, and the other hears which content won.

mod chunks;
mod commit;
mod connect;
mod error;
mod fetch;

pub use commit::Committed;
pub use connect::Location;
pub use error::StoreError;
pub use fetch::Fetched;

use crate::file_system::{Disk, FileSystem};
use object_store::{ObjectStore, path::Path as ObjectPath};
use std::{fmt, sync::Arc, time::Duration};

const PREFIX: &str = "step-";
const MANIFEST_SUFFIX: &str = ".json";

/// How objects are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// How long one request with its retries may take.
    pub patience: Duration,
    /// Files up to this size go in one piece, larger ones in parts of this size. S3 wants at least 5 MiB.
    pub part_bytes: u64,
    /// Parts of one file that are on their way at a time; each is in memory.
    pub parallel_parts: usize,
}

impl Default for Transfer {
    fn default() -> Self {
        Self { patience: Duration::from_secs(180), part_bytes: 8 << 20, parallel_parts: 4 }
    }
}

/// The checkpoints of one run in an object store; cheap to clone.
#[derive(Clone)]
pub struct DurableStore {
    objects: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    transfer: Transfer,
    files: Arc<dyn FileSystem>,
}

impl DurableStore {
    /// Checkpoints below `prefix` of an object store that is open already.
    pub fn on(objects: Arc<dyn ObjectStore>, prefix: ObjectPath, transfer: Transfer) -> Self {
        Self { objects, prefix, transfer, files: Arc::new(Disk) }
    }

    /// The same store for checkpoints that lie on another file system than the machine's.
    #[must_use]
    pub fn of_files(self, files: Arc<dyn FileSystem>) -> Self {
        Self { files, ..self }
    }

    /// The same store, one folder further down.
    #[must_use]
    pub fn within(&self, child: &str) -> Self {
        Self { prefix: self.prefix.clone().join(child), ..self.clone() }
    }

    /// Waits for the store, but not forever: its own retries end in time, what hangs below them is cut off here.
    async fn patiently<T>(
        &self,
        path: &ObjectPath,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let patience = 2 * self.transfer.patience;
        match tokio::time::timeout(patience, request).await {
            Ok(result) => result.map_err(|source| StoreError::Object { path: path.to_string(), source }),
            Err(_elapsed) => Err(StoreError::Deadline { path: path.to_string(), patience }),
        }
    }

    fn manifest_path(&self, version: u64) -> ObjectPath {
        self.prefix.clone().join(format!("{PREFIX}{version:08}{MANIFEST_SUFFIX}"))
    }

    fn version_path(&self, version: u64) -> ObjectPath {
        self.prefix.clone().join(format!("{PREFIX}{version:08}"))
    }

    fn file_path(&self, version: u64, digest: riser_core::digest::Digest, name: &str) -> ObjectPath {
        let folder = self.version_path(version).join(digest.to_string());
        name.split('/').fold(folder, ObjectPath::join)
    }
}

impl fmt::Display for DurableStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.objects, self.prefix)
    }
}

impl fmt::Debug for DurableStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DurableStore({self})")
    }
}

/// The version that an object's name under the prefix speaks of.
fn version_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
