//! Checkpoints that are whole or absent, on the local disk and in object stores.
//!
//! A checkpoint is a folder of named files and a manifest that is written last and knows size and digest of each of them.
//! [`CheckpointFolder`] keeps the checkpoints of one run on a disk: it writes so that a crash at any moment leaves the
//! previous or the new one whole, verifies every byte before it calls one whole, and sets damaged ones aside.
//! [`DurableStore`] keeps copies where the loss of the machine does not reach them: in any object store with a URL.
//!
//! The crate refuses to know what is in the files; an `about` value of the caller travels in the manifest. Start reading
//! at [`folder`], which has the order of writes, and [`file_system`], which has the operations a crash can fall between;
//! [`simulated_disk`] is a disk of tests that crashes there.

pub mod contents;
pub mod damage;
pub mod durable;
pub mod error;
pub mod file_system;
pub mod folder;
pub mod manifest;
mod offload;
mod sealed;
pub mod simulated_disk;

pub use contents::Contents;
pub use damage::{Damage, Skipped};
pub use durable::{DurableStore, Location, StoreError};
pub use error::FolderError;
pub use file_system::{Disk, FileSystem};
pub use folder::{Checkpoint, CheckpointFolder, Recovered};
pub use manifest::{FileRecord, Manifest};
