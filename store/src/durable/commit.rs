//! Uploading a checkpoint and committing it.

use super::{DurableStore, StoreError};
use crate::{
    damage::Damage,
    file_system::FileSystem,
    folder::Checkpoint,
    manifest::{FileRecord, Manifest},
    offload::offload,
};
use bytes::Bytes;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart, path::Path as ObjectPath};
use riser_core::digest::Hasher;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, Read},
    path::Path,
    sync::Arc,
};

/// Most parts that a file is cut into; S3 allows 10000.
const MAX_PARTS: u64 = 9000;

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// The version is new in the store.
    Now,
    /// The same content was committed before.
    Before,
}

impl DurableStore {
    /// Uploads a checkpoint of the local disk and commits it. What an attempt before has uploaded is not sent again.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the version is committed with other content, [`StoreError::Damaged`] if the local files
    /// are no longer what their manifest says, and whatever the store says.
    pub async fn commit<A>(&self, checkpoint: &Checkpoint<A>) -> Result<Committed, StoreError>
    where
        A: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let Checkpoint { path, manifest, digest } = checkpoint;
        let sealed = manifest.seal();
        let (text, _) =
            sealed.map_err(|source| StoreError::Damaged { path: path.clone(), source: Damage::Manifest(source) })?;
        if self.is_committed(checkpoint, &text).await? {
            return Ok(Committed::Before);
        }
        for (name, &record) in &manifest.files {
            let to = self.file_path(manifest.version, *digest, name);
            if !self.is_uploaded(&to, record).await? {
                self.upload(&path.join(name), name, record, &to).await.map_err(|error| error.about_checkpoint(path))?;
            }
        }
        let manifest_path = self.manifest_path(manifest.version);
        let put = PutOptions::from(PutMode::Create);
        let payload = PutPayload::from(text.clone());
        match self.patiently(&manifest_path, self.objects.put_opts(&manifest_path, payload, put)).await {
            Ok(_) => Ok(Committed::Now),
            // Ours, if only the answer to an earlier attempt was lost.
            Err(StoreError::Object { source: object_store::Error::AlreadyExists { .. }, .. }) => {
                self.is_committed(checkpoint, &text).await.map(|_| Committed::Before)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether another writer has committed the version of `checkpoint` with other content.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn has_other<A>(&self, checkpoint: &Checkpoint<A>) -> Result<bool, StoreError>
    where
        A: Serialize + DeserializeOwned + Clone,
    {
        let sealed = checkpoint.manifest.seal();
        let path = || checkpoint.path.clone();
        let (text, _) =
            sealed.map_err(|source| StoreError::Damaged { path: path(), source: Damage::Manifest(source) })?;
        match self.is_committed(checkpoint, &text).await {
            Err(StoreError::Conflict { .. }) => Ok(true),
            result => result.map(|_| false),
        }
    }

    /// Whether the version is in the store already, with this content.
    async fn is_committed<A>(&self, checkpoint: &Checkpoint<A>, text: &[u8]) -> Result<bool, StoreError>
    where
        A: Serialize + DeserializeOwned,
    {
        let version = checkpoint.manifest.version;
        let Some(committed) = self.read(&self.manifest_path(version)).await? else { return Ok(false) };
        if committed == text {
            return Ok(true);
        }
        let committed = match Manifest::<A>::unseal(&committed, version) {
            Ok((_, digest)) => digest.short(),
            Err(damage) => format!("that cannot be read ({damage})"),
        };
        Err(StoreError::Conflict { version, place: self.to_string(), committed, refused: checkpoint.digest.short() })
    }

    /// Objects appear whole or not at all, and only this content has this name, so a size is enough.
    async fn is_uploaded(&self, to: &ObjectPath, record: FileRecord) -> Result<bool, StoreError> {
        match self.patiently(to, self.objects.head(to)).await {
            Ok(meta) => Ok(meta.size == record.bytes),
            Err(StoreError::Object { source: object_store::Error::NotFound { .. }, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn upload(&self, from: &Path, name: &str, record: FileRecord, to: &ObjectPath) -> Result<(), StoreError> {
        let part_bytes = self.transfer.part_bytes.max(record.bytes / MAX_PARTS).max(1);
        let mut reader = PartReader::open(self.files.clone(), from, part_bytes).await?;
        if record.bytes <= part_bytes {
            let bytes = reader.next().await?;
            reader.check(name, record)?;
            self.patiently(to, self.objects.put(to, PutPayload::from(bytes))).await?;
            return Ok(());
        }
        let upload = self.patiently(to, self.objects.put_multipart(to)).await?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, part_bytes as usize);
        match self.send_parts(&mut parts, &mut reader, name, record, to).await {
            Ok(()) => self.patiently(to, parts.finish()).await.map(drop),
            Err(error) => {
                // What was sent is of no use; the store's own rules remove it if it does not hear this.
                let _ = self.patiently(to, parts.abort()).await;
                Err(error)
            }
        }
    }

    async fn send_parts(
        &self,
        parts: &mut WriteMultipart,
        reader: &mut PartReader,
        name: &str,
        record: FileRecord,
        to: &ObjectPath,
    ) -> Result<(), StoreError> {
        loop {
            let part = reader.next().await?;
            if part.is_empty() {
                return reader.check(name, record);
            }
            self.patiently(to, parts.wait_for_capacity(self.transfer.parallel_parts)).await?;
            parts.put(part);
        }
    }
}

/// Reads a file part by part on a blocking thread and takes its digest on the way.
struct PartReader {
    /// At home between reads.
    state: Option<(Box<dyn Read + Send>, Hasher)>,
    part_bytes: u64,
    bytes: u64,
    path: std::path::PathBuf,
}

impl PartReader {
    async fn open(files: Arc<dyn FileSystem>, path: &Path, part_bytes: u64) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let from = path.clone();
        let file = offload(move || files.open(&from)).await?;
        let file = file.map_err(|source| StoreError::Local { path: path.clone(), source })?;
        Ok(Self { state: Some((file, Hasher::default())), part_bytes, bytes: 0, path })
    }

    /// The next part; empty at the end of the file.
    async fn next(&mut self) -> Result<Bytes, StoreError> {
        let (mut file, mut hasher) = self.state.take().expect("the file comes home unless the thread panicked");
        let part_bytes = self.part_bytes;
        let read = offload(move || {
            let mut part = vec![];
            let result = Read::by_ref(&mut file).take(part_bytes).read_to_end(&mut part);
            hasher.update(&part);
            (result.map(|_| part), file, hasher)
        });
        let (part, file, hasher): (io::Result<Vec<u8>>, _, _) = read.await?;
        self.state = Some((file, hasher));
        let part = part.map_err(|source| StoreError::Local { path: self.path.clone(), source })?;
        self.bytes += part.len() as u64;
        Ok(part.into())
    }

    /// Whether what was read is what was written once.
    fn check(&self, name: &str, record: FileRecord) -> Result<(), StoreError> {
        let (_, hasher) = self.state.as_ref().expect("the file comes home unless the thread panicked");
        let got = FileRecord { bytes: self.bytes, digest: hasher.digest() };
        record.check(name, got).map_err(|source| StoreError::Damaged { path: self.path.clone(), source })
    }
}

impl StoreError {
    /// Damage is reported of the checkpoint, not of the file twice.
    fn about_checkpoint(self, checkpoint: &Path) -> Self {
        match self {
            Self::Damaged { source, .. } => Self::Damaged { path: checkpoint.to_owned(), source },
            other => other,
        }
    }
}
