//! Why a checkpoint cannot be written or recovered.

use crate::{
    contents::ContentError,
    damage::{Damage, Skipped},
    sealed::SealError,
};
use riser_core::digest::Digest;
use std::{io, path::PathBuf};

/// Why a checkpoint cannot be written or recovered.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no room.
    #[error("no space is left to write {path}: {source}")]
    Full {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system failed otherwise.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes of a file could not be made.
    #[error("content of {path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What its maker said.
        source: ContentError,
    },
    /// A file's name leaves the checkpoint, or is the manifest's.
    #[error("`{name}` is not a name for a file of checkpoint {path}")]
    Name {
        /// The checkpoint.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The manifest cannot be written as JSON.
    #[error("manifest of checkpoint {path}: {source}")]
    Manifest {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// The same version was committed before, with other content. What is committed is never replaced.
    #[error("{path} is committed with content {}, refused to replace it by {}", committed.short(), refused.short())]
    Diverged {
        /// The checkpoint.
        path: PathBuf,
        /// Digest of the one that stays.
        committed: Digest,
        /// Digest of the one that was refused.
        refused: Digest,
    },
    /// The checkpoint that was asked for is damaged.
    #[error("checkpoint {path} is damaged: {source}")]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
    /// There are checkpoints, and each of them is damaged.
    #[error("none of the {} checkpoints in {path} is whole: {}", damaged.len(), reasons(damaged))]
    NoneWhole {
        /// The folder.
        path: PathBuf,
        /// Each with what is wrong, newest first.
        damaged: Vec<Skipped>,
    },
}

pub(crate) fn reasons(damaged: &[Skipped]) -> String {
    let reason = |skipped: &Skipped| format!("version {}: {}", skipped.version, skipped.reason);
    damaged.iter().map(reason).collect::<Vec<_>>().join("; ")
}

impl FolderError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
            _ => Self::Io { path, source },
        }
    }

    /// Whether another attempt can never succeed, however much room or time there is.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Diverged { .. } | Self::Name { .. })
    }
}
