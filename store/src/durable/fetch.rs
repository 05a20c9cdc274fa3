//! Listing, restoring and pruning.

use super::{DurableStore, MANIFEST_SUFFIX, StoreError, version_of};
use crate::{
    damage::{Damage, Skipped},
    folder::{Checkpoint, CheckpointFolder},
    manifest::{self, FileRecord, Manifest},
    offload::offload,
};
use futures_util::TryStreamExt;
use object_store::{ObjectStoreExt, path::Path as ObjectPath};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;

/// What was restored.
#[derive(Debug)]
pub struct Fetched<A> {
    /// The newest whole checkpoint, now on the local disk; `None` if the store has none that is new enough.
    pub newest: Option<Checkpoint<A>>,
    /// Newer ones that are damaged, newest first. They stay where they are.
    pub skipped: Vec<Skipped>,
}

impl DurableStore {
    /// The committed versions, ascending.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn versions(&self) -> Result<Vec<u64>, StoreError> {
        let listing = self.patiently(&self.prefix, self.objects.list_with_delimiter(Some(&self.prefix))).await?;
        let name = |path: &ObjectPath| version_of(path.filename()?.strip_suffix(MANIFEST_SUFFIX)?);
        let mut versions: Vec<u64> = listing.objects.iter().filter_map(|meta| name(&meta.location)).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Brings the newest whole checkpoint after `after` to the local disk, every byte verified.
    ///
    /// # Errors
    /// [`StoreError::NoneWhole`] if there are some and each is damaged; whatever the store or the local folder says.
    pub async fn fetch_newest<A>(
        &self,
        folder: &CheckpointFolder<A>,
        after: Option<u64>,
    ) -> Result<Fetched<A>, StoreError>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
    {
        let mut skipped = vec![];
        for version in self.versions().await?.into_iter().rev() {
            if after.is_some_and(|after| version <= after) {
                break;
            }
            match self.fetch(folder, version).await? {
                Ok(checkpoint) => return Ok(Fetched { newest: Some(checkpoint), skipped }),
                Err(damage) => {
                    let place = format!("{}/{}", self, self.manifest_path(version).filename().unwrap_or_default());
                    tracing::warn!(version, reason = %damage, place, "damaged checkpoint passed over");
                    skipped.push(Skipped { version, place, reason: damage.to_string() });
                }
            }
        }
        match after {
            None if !skipped.is_empty() => Err(StoreError::NoneWhole { place: self.to_string(), damaged: skipped }),
            _ => Ok(Fetched { newest: None, skipped }),
        }
    }

    /// Brings one version to the local disk, or says what is wrong with it.
    async fn fetch<A>(
        &self,
        folder: &CheckpointFolder<A>,
        version: u64,
    ) -> Result<Result<Checkpoint<A>, Damage>, StoreError>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
    {
        let missing = |file: &str| Damage::Missing { file: file.to_owned() };
        let Some(text) = self.read(&self.manifest_path(version)).await? else {
            return Ok(Err(missing(manifest::NAME)));
        };
        let (manifest, digest) = match Manifest::<A>::unseal(&text, version) {
            Ok(read) => read,
            Err(damage) => return Ok(Err(damage)),
        };
        let mut staging = folder.stage(version)?;
        for (name, record) in &manifest.files {
            let from = self.file_path(version, digest, name);
            // A size that is wrong is seen before the bytes are taken into memory.
            match self.patiently(&from, self.objects.head(&from)).await {
                Ok(meta) if meta.size != record.bytes => {
                    let (file, expected) = (name.clone(), record.bytes);
                    return Ok(Err(Damage::Size { file, got: meta.size, expected }));
                }
                Err(StoreError::Object { source: object_store::Error::NotFound { .. }, .. }) => {
                    return Ok(Err(missing(name)));
                }
                head => drop(head?),
            }
            let Some(bytes) = self.read(&from).await? else { return Ok(Err(missing(name))) };
            let (name, record) = (name.clone(), *record);
            let checked = offload(move || match record.check(&name, FileRecord::of(&bytes)) {
                Ok(()) => Ok(staging.add(&name, &bytes).map(|()| staging)),
                Err(damage) => Err(damage),
            });
            staging = match checked.await? {
                Ok(added) => added?,
                Err(damage) => return Ok(Err(damage)),
            };
        }
        Ok(Ok(offload(move || staging.commit(manifest.about)).await??))
    }

    /// Removes all but the newest `keep` versions, and what was uploaded for versions before them and never committed.
    ///
    /// # Errors
    /// Whatever the store says; what is left is removed the next time.
    pub async fn prune(&self, keep: usize) -> Result<(), StoreError> {
        let versions = self.versions().await?;
        let Some(&oldest) = versions.iter().rev().take(keep.max(1)).next_back() else { return Ok(()) };
        let listing = self.patiently(&self.prefix, self.objects.list_with_delimiter(Some(&self.prefix))).await?;
        let uploaded = listing.common_prefixes.iter().filter_map(|path| version_of(path.filename()?));
        let old: BTreeSet<u64> = uploaded.chain(versions).filter(|version| *version < oldest).collect();
        for version in old {
            // The manifest first, so that none is left that names files which are gone.
            self.delete(&self.manifest_path(version)).await?;
            let folder = self.version_path(version);
            let files: Vec<_> = self.patiently(&folder, self.objects.list(Some(&folder)).try_collect()).await?;
            for file in files {
                self.delete(&file.location).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        match self.patiently(path, self.objects.delete(path)).await {
            Err(StoreError::Object { source: object_store::Error::NotFound { .. }, .. }) => Ok(()),
            result => result,
        }
    }

    /// The bytes of an object; `None` if it is not there.
    pub(super) async fn read(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>, StoreError> {
        let request = async { self.objects.get(path).await?.bytes().await };
        match self.patiently(path, request).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(StoreError::Object { source: object_store::Error::NotFound { .. }, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
