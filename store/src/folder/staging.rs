//! A checkpoint on its way: the only code that writes one, in the order that makes it whole or absent.

use super::{Checkpoint, PARTIAL, inspect, name_of, set_aside};
use crate::{
    error::FolderError,
    file_system::FileSystem,
    manifest::{self, FileRecord, Manifest},
};
use riser_core::digest::Digest;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A checkpoint under its temporary name. Dropped without a commit, it is removed.
#[derive(Debug)]
pub struct Staging<A> {
    files: Arc<dyn FileSystem>,
    root: PathBuf,
    version: u64,
    writer: u64,
    records: BTreeMap<String, FileRecord>,
    /// Folders inside the checkpoint that have files of it.
    folders: BTreeSet<PathBuf>,
    is_committed: bool,
    about: std::marker::PhantomData<fn() -> A>,
}

impl<A: Serialize + DeserializeOwned> Staging<A> {
    /// Makes an empty folder for `version` under `root`, which only `writer` touches.
    pub(super) fn begin(
        files: Arc<dyn FileSystem>,
        root: PathBuf,
        version: u64,
        writer: u64,
    ) -> Result<Self, FolderError> {
        let (records, folders) = (BTreeMap::new(), BTreeSet::new());
        let about = std::marker::PhantomData;
        let staging = Self { files, root, version, writer, records, folders, is_committed: false, about };
        let (files, root, partial) = (&staging.files, &staging.root, staging.partial());
        files.create_folder(root).map_err(FolderError::io(root))?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            files.sync_folder(parent).map_err(FolderError::io(parent))?;
        }
        files.remove_folder(&partial).map_err(FolderError::io(&partial))?;
        files.create_folder(&partial).map_err(FolderError::io(&partial))?;
        Ok(staging)
    }

    /// Writes a file and makes its bytes durable.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let partial = self.partial();
        if !manifest::is_inside(name) {
            return Err(FolderError::Name { path: self.complete(), name: name.to_owned() });
        }
        let path = partial.join(name);
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != partial) {
            if self.folders.insert(folder.to_owned()) {
                self.files.create_folder(folder).map_err(FolderError::io(folder))?;
            }
        }
        self.write(&path, bytes)?;
        self.records.insert(name.to_owned(), FileRecord::of(bytes));
        Ok(())
    }

    /// Writes the manifest and gives the checkpoint its name.
    ///
    /// # Errors
    /// [`FolderError::Diverged`] if the version is committed with other content.
    pub fn commit(mut self, about: A) -> Result<Checkpoint<A>, FolderError> {
        let (partial, complete) = (self.partial(), self.complete());
        for folder in &self.folders {
            self.files.sync_folder(folder).map_err(FolderError::io(folder))?;
        }
        let manifest = Manifest { version: self.version, about, files: std::mem::take(&mut self.records) };
        let sealed = manifest.seal();
        let (text, digest) = sealed.map_err(|source| FolderError::Manifest { path: complete.clone(), source })?;
        self.write(&partial.join(manifest::NAME), &text)?;
        self.files.sync_folder(&partial).map_err(FolderError::io(&partial))?;

        if let Some(before) = self.committed(digest)? {
            return Ok(before);
        }
        if let Err(error) = self.files.rename(&partial, &complete) {
            // Another writer may have been faster.
            return self.committed(digest)?.ok_or_else(|| FolderError::io(complete)(error));
        }
        self.is_committed = true;
        self.files.sync_folder(&self.root).map_err(FolderError::io(&self.root))?;
        Ok(Checkpoint { path: complete, manifest, digest })
    }

    /// What is committed as this version, if it has the content with this digest; what is damaged is set aside.
    fn committed(&self, digest: Digest) -> Result<Option<Checkpoint<A>>, FolderError> {
        let names = self.files.list(&self.root).map_err(FolderError::io(&self.root))?;
        if !names.contains(&name_of(self.version)) {
            return Ok(None);
        }
        match inspect::<A>(&*self.files, &self.root, self.version)? {
            Ok(committed) if committed.digest == digest => Ok(Some(committed)),
            Ok(Checkpoint { digest: committed, .. }) => {
                Err(FolderError::Diverged { path: self.complete(), committed, refused: digest })
            }
            Err(damage) => {
                set_aside(&*self.files, &self.root, self.version, &damage)?;
                Ok(None)
            }
        }
    }
}

impl<A> Staging<A> {
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
        self.files.write(path, bytes).map_err(FolderError::io(path))?;
        self.files.sync_file(path).map_err(FolderError::io(path))
    }

    fn partial(&self) -> PathBuf {
        self.root.join(format!(".{}.{:x}{PARTIAL}", name_of(self.version), self.writer))
    }

    fn complete(&self) -> PathBuf {
        self.root.join(name_of(self.version))
    }
}

impl<A> Drop for Staging<A> {
    fn drop(&mut self) {
        // Room is given back at once, since it may be what was missing. The next write removes what stays.
        if !self.is_committed
            && let Err(error) = self.files.remove_folder(&self.partial())
        {
            tracing::debug!(%error, version = self.version, "unfinished checkpoint stays");
        }
    }
}
