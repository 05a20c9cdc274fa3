//! What is in a checkpoint of the learner: the commit point of a run.
//!
//! ```text
//! checkpoints/
//!   step-00000040/
//!     ...                             what the trainer needs: model, optimizer, schedule
//!     retained/00000039.safetensors   older policies that new leases name (none in bounded mode, or if the lag is 0)
//!     checkpoint.json                 the manifest, written last
//! ```
//!
//! `riser_store` makes it whole or absent, `saver` writes it in the background, [`crate::recovery`] finds it again.
//! Of the groups only the ids of those that were trained on are kept. The others are sampled again; in lockstep that gives
//! the same bits.

use crate::snapshot_file::{self, SnapshotFileError};
use riser_core::{
    catalog::plan::CatalogPlan,
    digest::Digest,
    group_set::GroupSet,
    ids::PolicyVersion,
    pacing::Pacing,
    snapshot::{PolicyIdentity, PolicySnapshot},
};
use riser_store::{CheckpointFolder, Contents, FolderError, StoreError};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The checkpoints of a learner in a folder of the disk.
pub type Folder = CheckpointFolder<Manifest>;

/// What a checkpoint says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Optimizer steps taken; also the first batch that has not been trained.
    pub version: PolicyVersion,
    /// Digest of the trainer's policy of that version.
    pub policy: Digest,
    /// Which catalog each batch was made with, and the next one is.
    pub catalogs: CatalogPlan,
    /// Schedule of the run.
    pub pacing: Pacing,
    /// Groups that were trained on: in lockstep those of the batches before `version`, in bounded mode those that came.
    pub consumed: GroupSet,
    /// Digests of the older policies, as they were served, by version.
    pub retained: BTreeMap<u64, Digest>,
}

/// A checkpoint that was opened and found whole.
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
    /// The local folder failed, or what is in it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The durable store failed, or what is in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name is not a checkpoint's.
    #[error("{path} is not named like a checkpoint")]
    Name {
        /// The folder.
        path: PathBuf,
    },
    /// A retained policy is not the one that was written.
    #[error("checkpoint {path}: policy of version {version} has digest {}, expected {}", got.short(), expected.short())]
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
    /// A retained policy cannot be read.
    #[error(transparent)]
    Policy(#[from] SnapshotFileError),
    /// A thread that writes or reads checkpoints panicked.
    #[error("checkpoint work panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl CheckpointError {
    /// Whether another attempt can never succeed, so that training on is in vain.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Folder(error) => error.is_final(),
            Self::Store(error) => error.is_final(),
            _ => true,
        }
    }
}

/// Everything that makes a checkpoint of the trainer's `policy`, whose trainer has the given `state` and was trained on
/// `consumed` in a run with these `catalogs`, with the policies before it on `shelf` that new leases name.
pub(crate) fn assemble(
    catalogs: CatalogPlan,
    pacing: Pacing,
    consumed: GroupSet,
    policy: PolicyIdentity,
    shelf: &[Arc<PolicySnapshot>],
    state: Contents,
) -> (Manifest, Contents) {
    // The newest version is the trainer's own. Older ones are only wanted as far as the next batches reach.
    let wanted = pacing.resumed_with(policy.version).start..policy.version.0;
    let older: Vec<_> = shelf.iter().filter(|snapshot| wanted.contains(&snapshot.version().0)).cloned().collect();
    let retained = older.iter().map(|snapshot| (snapshot.version().0, snapshot.digest())).collect();
    let manifest = Manifest { version: policy.version, policy: policy.digest, catalogs, pacing, consumed, retained };
    let contents = older.into_iter().fold(state, |contents, snapshot| {
        let name = retained_name(snapshot.version().0);
        contents.with(name.clone(), move || snapshot_file::bytes(&snapshot, Path::new(&name)))
    });
    (manifest, contents)
}

/// Reads the policies of a checkpoint that was found whole.
pub(crate) fn load(whole: riser_store::Checkpoint<Manifest>) -> Result<Checkpoint, CheckpointError> {
    let (folder, manifest) = (whole.path, whole.manifest.about);
    let mut retained = vec![];
    for (&version, &expected) in &manifest.retained {
        let snapshot = snapshot_file::read(PolicyVersion(version), &folder.join(retained_name(version)))?;
        let got = snapshot.digest();
        if got != expected {
            return Err(CheckpointError::Retained { path: folder, version, got, expected });
        }
        retained.push(snapshot);
    }
    Ok(Checkpoint { folder, manifest, retained })
}

/// Opens a checkpoint by its folder, after reading all of it.
///
/// # Errors
/// [`CheckpointError`] says what is missing or damaged.
pub fn open(folder: &Path) -> Result<Checkpoint, CheckpointError> {
    let named = || CheckpointError::Name { path: folder.to_owned() };
    let version = folder.file_name().and_then(|name| riser_store::folder::version_of(name.to_str()?));
    let all = Folder::new(folder.parent().ok_or_else(named)?);
    load(all.open(version.ok_or_else(named)?)?)
}

/// The newest checkpoint under `folder`, not looked into; `None` if there is none, or no such folder.
///
/// # Errors
/// [`CheckpointError::Folder`] if the folder cannot be listed.
pub fn latest(folder: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    let all = Folder::new(folder);
    Ok(all.versions()?.last().map(|&version| all.path_of(version)))
}

fn retained_name(version: u64) -> String {
    format!("retained/{version:08}.safetensors")
}

#[cfg(test)]
mod tests;
