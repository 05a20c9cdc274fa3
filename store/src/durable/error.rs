//! Why the object store cannot be used.

use crate::{
    damage::{Damage, Skipped},
    error::FolderError,
};
use std::{io, path::PathBuf, time::Duration};

/// Why the object store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a URL.
    #[error("`{url}` is not a URL: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A kind of store that this program was built without, or that there is not.
    #[error("`{url}`: this build has no stores of kind `{scheme}`")]
    Scheme {
        /// What was given.
        url: String,
        /// Its first part.
        scheme: String,
    },
    /// The store, or the way to it, failed after all retries.
    #[error("object store, {path}: {source}")]
    Object {
        /// The object.
        path: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The store did not answer.
    #[error("object store, {path}: no answer in {} seconds", patience.as_secs())]
    Deadline {
        /// The object.
        path: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// A file of the local checkpoint cannot be read.
    #[error("{path}: {source}")]
    Local {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The local checkpoint is no longer what was written.
    #[error("checkpoint {path} is damaged: {source}")]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
    /// Another writer committed the same version with other content.
    #[error("version {version} is committed in {place} with content {committed}, refused to replace it by {refused}")]
    Conflict {
        /// The version.
        version: u64,
        /// The committed manifest.
        place: String,
        /// Digest of the content that stays.
        committed: String,
        /// Digest of the content that was refused.
        refused: String,
    },
    /// There are checkpoints in the store, and each of them is damaged.
    #[error("none of the {} checkpoints in {place} is whole: {}", damaged.len(), crate::error::reasons(damaged))]
    NoneWhole {
        /// Where.
        place: String,
        /// Each with what is wrong, newest first.
        damaged: Vec<Skipped>,
    },
    /// What was fetched cannot be kept on the local disk.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A thread that reads or writes files panicked.
    #[error("file work panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl StoreError {
    /// Whether another attempt can never succeed.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Conflict { .. } => true,
            Self::Folder(error) => error.is_final(),
            _ => false,
        }
    }
}
