//! Why a checkpoint is not whole.

use crate::sealed::SealError;
use riser_core::digest::Digest;
use std::io;

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A file is gone.
    #[error("`{file}` is missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// The device does not give a file's bytes back.
    #[error("`{file}` cannot be read: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is cut, or longer than it was.
    #[error("`{file}` has {got} bytes, expected {expected}")]
    Size {
        /// The file.
        file: String,
        /// Its size.
        got: u64,
        /// Its size when it was written.
        expected: u64,
    },
    /// Bytes of a file have changed.
    #[error("`{file}` has digest {}, expected {}", got.short(), expected.short())]
    Digest {
        /// The file.
        file: String,
        /// Digest of its bytes.
        got: Digest,
        /// Digest of the bytes that were written.
        expected: Digest,
    },
    /// The manifest is not one that was written.
    #[error("its manifest is damaged: {0}")]
    Manifest(#[source] SealError),
    /// The manifest belongs to another checkpoint.
    #[error("its manifest is of version {got}, expected {expected}")]
    Version {
        /// Version in the manifest.
        got: u64,
        /// Version in the checkpoint's name.
        expected: u64,
    },
    /// Nothing is wrong with it, but the store has another one of this version, which counts.
    #[error("the store has this version with other content")]
    Diverged,
    /// The manifest names a file outside its checkpoint.
    #[error("its manifest names `{file}`, which is not inside the checkpoint")]
    Outside {
        /// The file.
        file: String,
    },
}

impl Damage {
    /// Tells damage from a failure of the moment: `Err` gives the error back if it says nothing about the file itself.
    pub(crate) fn of(error: io::Error, file: &str) -> Result<Self, io::Error> {
        const EIO: i32 = 5;
        const EBADMSG: i32 = 74;
        const EUCLEAN: i32 = 117;
        let file = file.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Self::Missing { file }),
            io::ErrorKind::IsADirectory | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Ok(Self::Unreadable { file, source: error })
            }
            _ if matches!(error.raw_os_error(), Some(EIO | EBADMSG | EUCLEAN)) => {
                Ok(Self::Unreadable { file, source: error })
            }
            _ => Err(error),
        }
    }
}

/// A checkpoint that was passed over because it is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its version.
    pub version: u64,
    /// Where it is now.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}
