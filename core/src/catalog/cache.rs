//! Chunks and trees on the disk of a host, shared by all its workers.
//!
//! ```text
//! FOLDER/
//!   DIGEST.chunk   a chunk of a catalog that is being fetched
//!   DIGEST.tree    a whole catalog, mapped by those who use it; takes the place of its chunks
//!   .riser-XXXXXX  either of them while it is written
//! ```
//!
//! Files are named by their content, written under a name of their own and renamed, and verified whenever they are read. So
//! any number of processes may use one folder without a lock: two that write the same file write the same bytes, and what is
//! removed under a reader is fetched again, or stays mapped. Nothing is synced: what a crash tears is noticed and fetched
//! again.
//!
//! A file's time of modification is when it was last used. Before each write the files that were not used for longest make
//! room, those of abandoned writes among them. Files with other names are none of the cache's business.

use super::CatalogManifest;
use crate::{digest::Digest, prefix_tree::PrefixTree};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};
use tempfile::NamedTempFile;

const CHUNK: &str = "chunk";
const TREE: &str = "tree";
/// Begins the names of files that are being written.
const UNNAMED: &str = ".riser-";

/// A folder of chunks and trees. See the module documentation.
#[derive(Debug, Clone)]
pub struct CatalogCache {
    folder: PathBuf,
    max_bytes: u64,
    now: fn() -> SystemTime,
}

impl CatalogCache {
    /// The cache in `folder`, which is created, for at most `max_bytes`; `now` is the clock that files are stamped with.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(folder: &Path, max_bytes: u64, now: fn() -> SystemTime) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), max_bytes, now })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The catalog of `manifest`, mapped from its file, if it is here and whole.
    pub fn tree(&self, manifest: &CatalogManifest) -> Option<PrefixTree> {
        let path = self.tree_path(manifest.catalog());
        let tree = PrefixTree::open(&path).ok().filter(|tree| tree.digest() == manifest.catalog())?;
        self.touch(&path);
        Some(tree)
    }

    /// A chunk, from its own file or from the catalog's, if it is here and intact. A damaged file is removed, but for a
    /// catalog's: its other chunks are still good, and the next assembly replaces it.
    ///
    /// # Panics
    /// If the manifest has not so many chunks.
    pub fn chunk(&self, manifest: &CatalogManifest, index: usize) -> Option<Vec<u8>> {
        let chunk = manifest.chunk(index);
        let len = chunk.range.end - chunk.range.start;
        let path = self.chunk_path(chunk.digest);
        if let Ok(bytes) = read(&path, 0, len) {
            if manifest.verify(index, &bytes).is_ok() {
                self.touch(&path);
                return Some(bytes);
            }
            // Whoever else noticed may have been quicker.
            let _ = fs::remove_file(&path);
        }
        let bytes = read(&self.tree_path(manifest.catalog()), chunk.range.start, len).ok()?;
        manifest.verify(index, &bytes).is_ok().then_some(bytes)
    }

    /// Keeps a chunk that was verified.
    ///
    /// # Errors
    /// Those of the file system, for example [`io::ErrorKind::StorageFull`], also if the cache has no room.
    pub fn put(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len() as u64)?;
        let mut file = self.unnamed()?;
        file.write_all(bytes)?;
        self.persist(file, &self.chunk_path(digest))
    }

    /// A file for a whole catalog, which may come to lie beside all its chunks.
    pub(super) fn begin(&self, manifest: &CatalogManifest) -> io::Result<NamedTempFile> {
        let (total, room) = (manifest.total_bytes(), self.max_bytes);
        if total > room / 2 {
            let what = format!("a catalog of {total} bytes needs twice as much while it comes, the cache has {room}");
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        self.unnamed()
    }

    /// Names the file of a whole catalog and removes its chunks.
    pub(super) fn keep(&self, manifest: &CatalogManifest, file: NamedTempFile) -> io::Result<()> {
        self.persist(file, &self.tree_path(manifest.catalog()))?;
        for chunk in manifest.chunks() {
            let _ = fs::remove_file(self.chunk_path(chunk.digest));
        }
        Ok(())
    }

    /// Removes what was not used for longest until there is room for `bytes` more.
    pub(super) fn make_room(&self, bytes: u64) -> io::Result<()> {
        let (mut files, mut used) = (vec![], 0);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // What is gone meanwhile takes no room.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() && is_ours(&entry.file_name()) {
                used += metadata.len();
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        if used + bytes <= self.max_bytes {
            return Ok(());
        }
        files.sort();
        for (_, len, path) in files {
            if used + bytes <= self.max_bytes {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => used -= len,
            }
        }
        if used + bytes <= self.max_bytes {
            return Ok(());
        }
        let what = format!("no room for {bytes} bytes in a cache of {}", self.max_bytes);
        Err(io::Error::new(io::ErrorKind::StorageFull, what))
    }

    fn unnamed(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(UNNAMED).tempfile_in(&self.folder)
    }

    fn persist(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        file.as_file().set_modified((self.now)())?;
        file.persist(path)?;
        Ok(())
    }

    /// Notes that a file was used; one of another user cannot be stamped and leaves a little early.
    fn touch(&self, path: &Path) {
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified((self.now)()));
    }

    fn chunk_path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.{CHUNK}"))
    }

    fn tree_path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.{TREE}"))
    }
}

/// Whether a file of the folder is one that a cache wrote.
fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let is_named =
        |(stem, extension): (&str, &str)| [CHUNK, TREE].contains(&extension) && Digest::from_str(stem).is_ok();
    name.starts_with(UNNAMED) || name.split_once('.').is_some_and(is_named)
}

/// `len` bytes of a file from `start` on, at most those that there are.
fn read(path: &Path, start: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}
