//! The few operations on files that checkpoints are made of, so that a test can stop between any two of them.

use crate::manifest::FileRecord;
use riser_core::digest::Digest;
use std::{
    fmt,
    fs::{self, File},
    io::{self, Cursor, Read},
    path::Path,
};

/// Files and folders. Nothing is durable before it is synced: the bytes of a file by [`sync_file`](Self::sync_file), the
/// names in a folder (created, renamed, removed) by [`sync_folder`](Self::sync_folder).
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Creates a folder and the folders above it; one that is there is left alone.
    ///
    /// # Errors
    /// Those of the system.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Creates or replaces a file.
    ///
    /// # Errors
    /// Those of the system, for example [`io::ErrorKind::StorageFull`].
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes of a file durable.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_file(&self, file: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Gives a file or folder another name in one step.
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a folder with everything in it; one that is not there is removed already.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;

    /// The names in a folder, in any order; none if there is no such folder.
    ///
    /// # Errors
    /// Those of the system.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// The bytes of a file.
    ///
    /// # Errors
    /// Those of the system.
    fn read(&self, file: &Path) -> io::Result<Vec<u8>>;

    /// The bytes of a file, one after the other.
    ///
    /// # Errors
    /// Those of the system.
    fn open(&self, file: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.read(file)?)))
    }

    /// Size and digest of a file's bytes, all of which are read.
    ///
    /// # Errors
    /// Those of the system.
    fn record(&self, file: &Path) -> io::Result<FileRecord> {
        Ok(FileRecord::of(&self.read(file)?))
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl FileSystem for Disk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(file, bytes)
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        File::open(file)?.sync_all()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        fs::read(file)
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(file)?))
    }

    fn record(&self, file: &Path) -> io::Result<FileRecord> {
        let (digest, bytes) = Digest::of_reader(File::open(file)?)?;
        Ok(FileRecord { bytes, digest })
    }
}
