//! The checkpoints of one run in a folder of the local disk.
//!
//! ```text
//! checkpoints/
//!   step-00000040/             whole, or damaged by something that is not us
//!     ...                      the files of the owner
//!     checkpoint.json          the manifest: size and digest of every file, written last
//!   damaged-step-00000060/     set aside by recovery; the next one keeps the newest three
//!   .step-00000080.partial/    being written; a leftover of a crash otherwise
//! ```
//!
//! A checkpoint is made under a temporary name: each file is written and synced, then the manifest, then the names in the
//! folder; only then is the folder renamed, which is the commit, and the name synced. So whatever a crash interrupts, and
//! whatever of the unsynced work it loses, the checkpoint before it stays whole. What is committed is never replaced.

mod recovery;
mod staging;

pub use recovery::Recovered;
pub use staging::Staging;

use crate::{
    contents::Contents,
    damage::{Damage, Skipped},
    error::FolderError,
    file_system::{Disk, FileSystem},
    manifest::{self, Manifest},
};
use riser_core::digest::Digest;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

const PREFIX: &str = "step-";
const DAMAGED: &str = "damaged-";
const PARTIAL: &str = ".partial";
const REMOVED: &str = ".removed";

/// Damaged checkpoints that recovery leaves from before: enough to see what is wrong with a disk, too few to fill it.
const KEPT_DAMAGED: usize = 3;

/// A checkpoint every byte of which was read and found as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint<A> {
    /// Its folder.
    pub path: PathBuf,
    /// What it says about itself.
    pub manifest: Manifest<A>,
    /// Digest of the manifest, and so of everything in it.
    pub digest: Digest,
}

/// The checkpoints of one run; `A` is what their owner says about each.
#[derive(Debug)]
pub struct CheckpointFolder<A> {
    files: Arc<dyn FileSystem>,
    path: PathBuf,
    /// Versions that were found whole, or written, since this value was made.
    whole: BTreeSet<u64>,
    about: std::marker::PhantomData<fn() -> A>,
}

impl<A: Serialize + DeserializeOwned> CheckpointFolder<A> {
    /// The checkpoints in `path` on the disk; the folder need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(Disk), path)
    }

    /// The checkpoints in `path` of any file system.
    pub fn on(files: Arc<dyn FileSystem>, path: impl Into<PathBuf>) -> Self {
        Self { files, path: path.into(), whole: BTreeSet::new(), about: std::marker::PhantomData }
    }

    /// The folder of all checkpoints.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a version lies, if it is there.
    pub fn path_of(&self, version: u64) -> PathBuf {
        self.path.join(name_of(version))
    }

    /// Writes and commits a version.
    ///
    /// Writing the same content again does nothing, so that a resumed run may come by.
    ///
    /// # Errors
    /// [`FolderError`]; nothing that was committed before has changed then, and what was written is removed again.
    pub fn write(&mut self, version: u64, about: A, contents: Contents) -> Result<Checkpoint<A>, FolderError> {
        let mut staging = self.stage(version)?;
        for (name, make) in contents {
            let path = self.path_of(version).join(&name);
            let bytes = make().map_err(|source| FolderError::Content { path, source })?;
            staging.add(&name, &bytes)?;
        }
        let checkpoint = staging.commit(about)?;
        self.whole.insert(version);
        Ok(checkpoint)
    }

    /// Begins to write a version file by file.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn stage(&self, version: u64) -> Result<Staging<A>, FolderError> {
        Staging::begin(self.files.clone(), self.path.clone(), version)
    }

    /// Opens a version after reading all of it.
    ///
    /// # Errors
    /// [`FolderError::Damaged`] says what is wrong with it.
    pub fn open(&self, version: u64) -> Result<Checkpoint<A>, FolderError> {
        let path = self.path_of(version);
        self.inspect(version)?.map_err(|source| FolderError::Damaged { path, source })
    }

    /// Versions that have a folder, whole or damaged, ascending.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn versions(&self) -> Result<Vec<u64>, FolderError> {
        let names = self.files.list(&self.path).map_err(FolderError::io(&self.path))?;
        let mut versions: Vec<u64> = names.iter().filter_map(|name| version_of(name)).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Reads all of a version and says whether it is whole.
    fn inspect(&self, version: u64) -> Result<Result<Checkpoint<A>, Damage>, FolderError> {
        inspect(&*self.files, &self.path, version)
    }

    fn set_aside(&self, version: u64, damage: &Damage) -> Result<Skipped, FolderError> {
        set_aside(&*self.files, &self.path, version, damage)
    }
}

/// Reads all of a version in `root` and says whether it is whole.
fn inspect<A: Serialize + DeserializeOwned>(
    files: &dyn FileSystem,
    root: &Path,
    version: u64,
) -> Result<Result<Checkpoint<A>, Damage>, FolderError> {
    let path = root.join(name_of(version));
    let judge = |error, file: &str| match Damage::of(error, file) {
        Ok(damage) => Ok(damage),
        Err(error) => Err(FolderError::io(path.join(file))(error)),
    };
    let text = match files.read(&path.join(manifest::NAME)) {
        Ok(text) => text,
        Err(error) => return judge(error, manifest::NAME).map(Err),
    };
    let (manifest, digest) = match Manifest::<A>::unseal(&text, version) {
        Ok(read) => read,
        Err(damage) => return Ok(Err(damage)),
    };
    for (file, record) in &manifest.files {
        match files.record(&path.join(file)) {
            Ok(got) => {
                if let Err(damage) = record.check(file, got) {
                    return Ok(Err(damage));
                }
            }
            Err(error) => return judge(error, file).map(Err),
        }
    }
    Ok(Ok(Checkpoint { path, manifest, digest }))
}

/// Gives a damaged version a name that is not a checkpoint's.
fn set_aside(files: &dyn FileSystem, root: &Path, version: u64, damage: &Damage) -> Result<Skipped, FolderError> {
    let taken = files.list(root).map_err(FolderError::io(root))?;
    let first = format!("{DAMAGED}{}", name_of(version));
    let mut names = std::iter::once(first.clone()).chain((2_u64..).map(|again| format!("{first}-{again}")));
    let name = names.find(|name| !taken.contains(name)).unwrap_or(first);
    let (from, to) = (root.join(name_of(version)), root.join(name));
    files.rename(&from, &to).map_err(FolderError::io(&from))?;
    files.sync_folder(root).map_err(FolderError::io(root))?;
    tracing::warn!(version, reason = %damage, place = %to.display(), "damaged checkpoint set aside");
    Ok(Skipped { version, place: to.display().to_string(), reason: damage.to_string() })
}

/// Which damaged checkpoint a name is of: its version, and its number among those of that version.
fn damaged_of(name: &str) -> Option<(u64, u64)> {
    let name = name.strip_prefix(DAMAGED)?;
    let (first, again) = match name.strip_prefix(PREFIX)?.split_once('-') {
        Some((digits, again)) => (&name[..PREFIX.len() + digits.len()], again.parse().ok()?),
        None => (name, 1),
    };
    Some((version_of(first)?, again))
}

fn name_of(version: u64) -> String {
    format!("{PREFIX}{version:08}")
}

/// The version of a checkpoint by the name of its folder; `None` for any other name.
pub fn version_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
