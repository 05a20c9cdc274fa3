//! A checkpoint on its way: the only code that writes one, in the order that makes it whole or absent.

use super::{Checkpoint, PARTIAL, inspect, name_of, set_aside};
use crate::{
    error::FolderError,
    file_system::FileSystem,
    manifest::{self, FileRecord, Manifest},
};
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
    records: BTreeMap<String, FileRecord>,
    /// Folders inside the checkpoint that have files of it.
    folders: BTreeSet<PathBuf>,
    committed: bool,
    about: std::marker::PhantomData<fn() -> A>,
}

impl<A: Serialize + DeserializeOwned> Staging<A> {
    /// Makes an empty folder for `version` under `root`.
    pub(super) fn begin(files: Arc<dyn FileSystem>, root: PathBuf, version: u64) -> Result<Self, FolderError> {
        let (records, folders) = (BTreeMap::new(), BTreeSet::new());
        let about = std::marker::PhantomData;
        let staging = Self { files, root, version, records, folders, committed: false, about };
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

        let names = self.files.list(&self.root).map_err(FolderError::io(&self.root))?;
        if names.contains(&name_of(self.version)) {
            match inspect::<A>(&*self.files, &self.root, self.version)? {
                Ok(committed) if committed.digest == digest => return Ok(committed),
                Ok(Checkpoint { digest: committed, .. }) => {
                    return Err(FolderError::Diverged { path: complete, committed, refused: digest });
                }
                Err(damage) => drop(set_aside(&*self.files, &self.root, self.version, &damage)?),
            }
        }
        self.files.rename(&partial, &complete).map_err(FolderError::io(&complete))?;
        self.committed = true;
        self.files.sync_folder(&self.root).map_err(FolderError::io(&self.root))?;
        Ok(Checkpoint { path: complete, manifest, digest })
    }
}

impl<A> Staging<A> {
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
        self.files.write(path, bytes).map_err(FolderError::io(path))?;
        self.files.sync_file(path).map_err(FolderError::io(path))
    }

    fn partial(&self) -> PathBuf {
        self.root.join(format!(".{}{PARTIAL}", name_of(self.version)))
    }

    fn complete(&self) -> PathBuf {
        self.root.join(name_of(self.version))
    }
}

impl<A> Drop for Staging<A> {
    fn drop(&mut self) {
        // Room is given back at once, since it may be what was missing. The next write removes what stays.
        if !self.committed
            && let Err(error) = self.files.remove_folder(&self.partial())
        {
            tracing::debug!(%error, version = self.version, "unfinished checkpoint stays");
        }
    }
}
