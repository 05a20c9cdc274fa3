//! Checkpoints: the commit point of a run.
//!
//! ```text
//! checkpoints/
//!   step-00000040/
//!     ...                         what the trainer needs: model, optimizer, schedule
//!     retained/00000039.safetensors   older policies that new leases name (none in bounded mode, or if the lag is 0)
//!     checkpoint.json             the manifest, written last
//! ```
//!
//! A checkpoint is written under a temporary name and renamed when it is complete, so a folder called `step-*` is whole.
//! Of the groups only the ids of those that were trained on are kept. The others are sampled again; in lockstep that gives
//! the same bits.

use crate::{
    snapshot_file::{self, SnapshotFileError},
    trainer::TrainerError,
};
use riser_core::{digest::Digest, group_set::GroupSet, ids::PolicyVersion, pacing::Pacing, snapshot::PolicySnapshot};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

const FORMAT: u32 = 1;
const MANIFEST: &str = "checkpoint.json";
const RETAINED: &str = "retained";
const PREFIX: &str = "step-";

/// What a checkpoint says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout of the folder; this code writes and reads 1.
    pub format: u32,
    /// Optimizer steps taken; also the first batch that has not been trained.
    pub version: PolicyVersion,
    /// Digest of the policy of that version.
    pub policy: Digest,
    /// Catalog of the run.
    pub catalog: Digest,
    /// Schedule of the run.
    pub pacing: Pacing,
    /// Groups that were trained on: in lockstep those of the batches before `version`, in bounded mode those that came.
    pub consumed: GroupSet,
    /// Digests of the older policies by version.
    pub retained: BTreeMap<u64, Digest>,
    /// Size of every other file, by path inside the folder, so that a cut file is noticed before it is read.
    pub file_bytes: BTreeMap<String, u64>,
}

/// A checkpoint that was opened and checked.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its folder, which the trainer reads its part from.
    pub folder: PathBuf,
    /// What it says about itself.
    pub manifest: Manifest,
    /// The older policies, ascending by version.
    pub retained: Vec<PolicySnapshot>,
}

/// Why a checkpoint cannot be written or opened.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system failed.
    #[error("checkpoint {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The trainer could not write its part.
    #[error("checkpoint {path}: {source}")]
    Trainer {
        /// The folder.
        path: PathBuf,
        /// What the trainer said.
        source: TrainerError,
    },
    /// The manifest is not one.
    #[error("manifest {path}: {source}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Written by another release.
    #[error("checkpoint {path} has format {got}, this release reads {FORMAT}")]
    Format {
        /// The folder.
        path: PathBuf,
        /// Its format.
        got: u32,
    },
    /// A file is gone or cut.
    #[error("checkpoint {path} is damaged: `{file}` has {} bytes, expected {expected}", got.map_or("no".into(), |got| got.to_string()))]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The file in it.
        file: String,
        /// Its size; `None` if it is gone.
        got: Option<u64>,
        /// Its size when it was written.
        expected: u64,
    },
    /// A retained policy is not the one that was written.
    #[error("checkpoint {path} is damaged: policy of version {version} has digest {}, expected {}", got.short(), expected.short())]
    Retained {
        /// The folder.
        path: PathBuf,
        /// The policy's version.
        version: u64,
        /// Digest of what was read.
        got: Digest,
        /// Digest of what was written.
        expected: Digest,
    },
    /// A retained policy cannot be written or read.
    #[error(transparent)]
    Policy(#[from] SnapshotFileError),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path, source }
}

/// Writes the checkpoint of the newest policy on `shelf`; `save` writes the trainer's part. Returns its folder.
///
/// # Errors
/// [`CheckpointError`]; no folder called `step-*` is left then.
pub fn write(
    folder: &Path,
    catalog: Digest,
    pacing: Pacing,
    consumed: GroupSet,
    shelf: &[Arc<PolicySnapshot>],
    save: impl FnOnce(&Path) -> Result<(), TrainerError>,
) -> Result<PathBuf, CheckpointError> {
    let Some((newest, older)) = shelf.split_last() else {
        let source = std::io::Error::other("no policy has been published yet");
        return Err(CheckpointError::Io { path: folder.to_owned(), source });
    };
    let complete = folder.join(format!("{PREFIX}{:08}", newest.version().0));
    let partial = folder.join(format!(".{PREFIX}{:08}.partial", newest.version().0));
    remove(&partial)?;
    fs::create_dir_all(&partial).map_err(io(&partial))?;
    save(&partial).map_err(|source| CheckpointError::Trainer { path: partial.clone(), source })?;

    // The newest version is the trainer's own. Older ones are only wanted as far as the next batches reach.
    let wanted = pacing.resumed_with(newest.version());
    let older: Vec<_> = older.iter().filter(|snapshot| wanted.contains(&snapshot.version().0)).collect();
    if !older.is_empty() {
        let retained = partial.join(RETAINED);
        fs::create_dir_all(&retained).map_err(io(&retained))?;
        for snapshot in &older {
            snapshot_file::write(snapshot, &retained_path(&partial, snapshot.version().0))?;
        }
    }
    let manifest = Manifest {
        format: FORMAT,
        version: newest.version(),
        policy: newest.digest(),
        catalog,
        pacing,
        consumed,
        retained: older.iter().map(|snapshot| (snapshot.version().0, snapshot.digest())).collect(),
        file_bytes: sync_files(&partial)?,
    };
    let path = partial.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|source| CheckpointError::Manifest { path: path.clone(), source })?;
    fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all()).map_err(io(&path))?;
    File::open(&partial).and_then(|folder| folder.sync_all()).map_err(io(&partial))?;
    remove(&complete)?;
    fs::rename(&partial, &complete).map_err(io(&complete))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))?;
    Ok(complete)
}

/// Opens a checkpoint and checks that it is whole.
///
/// # Errors
/// [`CheckpointError`] says what is missing or damaged.
pub fn open(folder: &Path) -> Result<Checkpoint, CheckpointError> {
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(io(&path))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|source| CheckpointError::Manifest { path, source })?;
    if manifest.format != FORMAT {
        return Err(CheckpointError::Format { path: folder.to_owned(), got: manifest.format });
    }
    for (file, &expected) in &manifest.file_bytes {
        let got = fs::metadata(folder.join(file)).ok().map(|metadata| metadata.len());
        if got != Some(expected) {
            return Err(CheckpointError::Damaged { path: folder.to_owned(), file: file.clone(), got, expected });
        }
    }
    let mut retained = vec![];
    for (&version, &expected) in &manifest.retained {
        let snapshot = snapshot_file::read(PolicyVersion(version), &retained_path(folder, version))?;
        let got = snapshot.digest();
        if got != expected {
            return Err(CheckpointError::Retained { path: folder.to_owned(), version, got, expected });
        }
        retained.push(snapshot);
    }
    Ok(Checkpoint { folder: folder.to_owned(), manifest, retained })
}

/// The newest checkpoint under `folder`; `None` if there is none, or no such folder.
///
/// # Errors
/// [`CheckpointError::Io`] if the folder cannot be listed.
pub fn latest(folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(list(folder)?.pop())
}

/// Deletes all but the newest `keep` checkpoints, and never the newest one.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn prune(folder: &Path, keep: usize) -> Result<(), CheckpointError> {
    let all = list(folder)?;
    let old = all.len().saturating_sub(keep.max(1));
    all[..old].iter().try_for_each(|checkpoint| remove(checkpoint))
}

/// Checkpoints under `folder`, oldest first.
fn list(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(io(folder)(error)),
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(io(folder))?;
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok());
        found.extend(version.map(|version| (version, entry.path())));
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Makes every file of `root` durable and says how long it is.
fn sync_files(root: &Path) -> Result<BTreeMap<String, u64>, CheckpointError> {
    let mut sizes = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(io(&folder))? {
            let path = entry.map_err(io(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = File::open(&path).map_err(io(&path))?;
            file.sync_all().map_err(io(&path))?;
            let name = path.strip_prefix(root).expect("the walk stays below its root").to_string_lossy().into_owned();
            sizes.insert(name, file.metadata().map_err(io(&path))?.len());
        }
    }
    Ok(sizes)
}

fn remove(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(folder)(error)),
        _ => Ok(()),
    }
}

fn retained_path(folder: &Path, version: u64) -> PathBuf {
    folder.join(RETAINED).join(format!("{version:08}.safetensors"))
}

#[cfg(test)]
mod tests;
