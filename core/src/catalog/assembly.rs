//! Putting a catalog together from its chunks, in memory or in a file of the cache.

use super::{CatalogManifest, cache::CatalogCache};
use crate::{
    digest::Digest,
    prefix_tree::{OpenError, PrefixTree},
};
use std::{
    io::{self, Write},
    sync::Arc,
};
use tempfile::NamedTempFile;

/// Why there is no tree in the end.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The cache's disk refused; the same chunks still make a tree in memory.
    #[error("catalog cache: {0}")]
    Disk(#[from] io::Error),
    /// The chunks are those of the manifest, and no prefix tree.
    #[error(transparent)]
    Tree(#[from] OpenError),
    /// The chunks are those of the manifest, and another catalog's.
    #[error("the chunks of catalog {} make catalog {}", announced.short(), got.short())]
    Other {
        /// What the tree's digest is.
        got: Digest,
        /// What the manifest said.
        announced: Digest,
    },
}

/// A catalog in the making. Chunks are pushed in order, each after it was verified.
#[derive(Debug)]
pub struct Assembly {
    manifest: Arc<CatalogManifest>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    Disk { cache: CatalogCache, file: NamedTempFile },
}

impl Assembly {
    /// An assembly in memory.
    pub fn in_memory(manifest: Arc<CatalogManifest>) -> Self {
        Self { manifest, place: Place::Memory(vec![]) }
    }

    /// An assembly in a file of `cache`, where the tree will be found next time.
    ///
    /// # Errors
    /// If the cache is too small for this catalog, or those of the file system.
    pub fn in_cache(manifest: Arc<CatalogManifest>, cache: CatalogCache) -> io::Result<Self> {
        let file = cache.begin(&manifest)?;
        Ok(Self { manifest, place: Place::Disk { cache, file } })
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// Those of the file system; none in memory.
    pub fn push(mut self, chunk: &[u8]) -> io::Result<Self> {
        match &mut self.place {
            Place::Memory(bytes) => bytes.extend_from_slice(chunk),
            Place::Disk { cache, file } => {
                cache.make_room(chunk.len() as u64)?;
                file.write_all(chunk)?;
            }
        }
        Ok(self)
    }

    /// The tree, once every chunk has been pushed.
    ///
    /// # Errors
    /// [`AssemblyError`].
    pub fn finish(self) -> Result<PrefixTree, AssemblyError> {
        let announced = self.manifest.catalog();
        let tree = match self.place {
            Place::Memory(bytes) => PrefixTree::from_bytes(&bytes, "received from the coordinator")?,
            Place::Disk { cache, file } => {
                // The chunks were right, so it is the disk that is not, or else the assembly in memory will say what is.
                let tree = PrefixTree::open(file.path()).map_err(io::Error::other)?;
                if tree.digest() == announced {
                    // The mapping is of the file, whatever it is called.
                    cache.keep(&self.manifest, file)?;
                }
                tree
            }
        };
        let got = tree.digest();
        if got == announced { Ok(tree) } else { Err(AssemblyError::Other { got, announced }) }
    }
}
