//! The catalog as it travels: the file of its prefix tree, cut into chunks that are known by their digests.
//!
//! ```text
//! manifest   which catalog, how many bytes, digest of every chunk
//! chunk i    bytes [i * chunk_bytes, (i + 1) * chunk_bytes) of the file; the last one may be shorter
//! ```
//!
//! Whoever has the manifest can take chunks from anywhere, in any order and over several attempts: a chunk is right or it is
//! not. What is put together from them is opened as a [`PrefixTree`](crate::prefix_tree::PrefixTree), which checks its own
//! digest, so a manifest that lies is noticed too. [`CatalogCache`] keeps chunks and trees on a disk.
//!
//! A run may go from one catalog to the next: [`plan`] says which batch is made with which, [`change`] what the next one means
//! for the run's data.

mod assembly;
mod cache;
pub mod change;
pub mod plan;

pub use assembly::{Assembly, AssemblyError};
pub use cache::CatalogCache;

use crate::digest::Digest;
use std::ops::Range;

/// Version of the manifest.
pub const FORMAT: u32 = 1;

/// Bytes of a chunk as we cut it.
pub const CHUNK_BYTES: u32 = 1 << 20;

/// Smallest and largest chunk that is believed.
const CHUNK_RANGE: std::ops::RangeInclusive<u32> = 1 << 10..=4 << 20;

/// What a catalog consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogManifest {
    catalog: Digest,
    total_bytes: u64,
    chunk_bytes: u32,
    chunks: Vec<Digest>,
}

/// One chunk of a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Where its bytes lie in the file.
    pub range: Range<u64>,
}

/// Why a manifest is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// A manifest of another version.
    #[error("catalog manifest has format {format}, this program reads {FORMAT}")]
    Format {
        /// Its version.
        format: u32,
    },
    /// Chunks of a size that nobody cuts.
    #[error("catalog has chunks of {chunk_bytes} bytes, {} to {} are accepted", CHUNK_RANGE.start(), CHUNK_RANGE.end())]
    ChunkSize {
        /// The size.
        chunk_bytes: u32,
    },
    /// Larger than we take.
    #[error("catalog has {total_bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Its size.
        total_bytes: u64,
        /// The most we accept.
        limit: u64,
    },
    /// Nothing at all.
    #[error("catalog has no bytes")]
    Empty,
    /// More or fewer chunks than the sizes say.
    #[error(
        "catalog of {total_bytes} bytes in chunks of {chunk_bytes} has {expected} chunks, the manifest lists {got}"
    )]
    Count {
        /// Bytes of the catalog.
        total_bytes: u64,
        /// Bytes of a chunk.
        chunk_bytes: u32,
        /// Chunks that there must be.
        expected: u64,
        /// Chunks that are listed.
        got: usize,
    },
}

/// Bytes that are not the chunk they should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("chunk {index} of the catalog has digest {}, expected {}", got.short(), expected.short())]
pub struct ChunkError {
    /// Which chunk.
    pub index: usize,
    /// Digest of the bytes.
    pub got: Digest,
    /// Digest of the chunk.
    pub expected: Digest,
}

impl CatalogManifest {
    /// The manifest of `catalog`, whose file is `bytes`, cut into pieces of `chunk_bytes`.
    pub fn of(catalog: Digest, bytes: &[u8], chunk_bytes: u32) -> Self {
        let chunks = bytes.chunks(chunk_bytes as usize).map(Digest::of).collect();
        Self { catalog, total_bytes: bytes.len() as u64, chunk_bytes, chunks }
    }

    /// A manifest that someone sent, for a catalog of at most `max_bytes`.
    ///
    /// # Errors
    /// [`ManifestError`]; nothing has been allocated by then for what it announces.
    pub fn received(
        format: u32,
        catalog: Digest,
        total_bytes: u64,
        chunk_bytes: u32,
        chunks: Vec<Digest>,
        max_bytes: u64,
    ) -> Result<Self, ManifestError> {
        if format != FORMAT {
            return Err(ManifestError::Format { format });
        }
        if !CHUNK_RANGE.contains(&chunk_bytes) {
            return Err(ManifestError::ChunkSize { chunk_bytes });
        }
        if total_bytes > max_bytes {
            return Err(ManifestError::TooLarge { total_bytes, limit: max_bytes });
        }
        if total_bytes == 0 {
            return Err(ManifestError::Empty);
        }
        let (expected, got) = (total_bytes.div_ceil(chunk_bytes.into()), chunks.len());
        if expected != got as u64 {
            return Err(ManifestError::Count { total_bytes, chunk_bytes, expected, got });
        }
        Ok(Self { catalog, total_bytes, chunk_bytes, chunks })
    }

    /// Which catalog it is: the digest that groups and trees carry.
    pub fn catalog(&self) -> Digest {
        self.catalog
    }

    /// Bytes of all chunks.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes of every chunk but the last.
    pub fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// Number of chunks.
    pub fn num_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// A chunk by its place.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn chunk(&self, index: usize) -> Chunk {
        let start = index as u64 * u64::from(self.chunk_bytes);
        let end = self.total_bytes.min(start + u64::from(self.chunk_bytes));
        Chunk { digest: self.chunks[index], range: start..end }
    }

    /// All chunks in order.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = Chunk> + '_ {
        (0..self.chunks.len()).map(|index| self.chunk(index))
    }

    /// Checks that `bytes` are chunk `index`.
    ///
    /// # Errors
    /// [`ChunkError`] if they are not.
    ///
    /// # Panics
    /// If there are not so many chunks.
    pub fn verify(&self, index: usize, bytes: &[u8]) -> Result<(), ChunkError> {
        let (got, expected) = (Digest::of(bytes), self.chunks[index]);
        if got == expected { Ok(()) } else { Err(ChunkError { index, got, expected }) }
    }
}

#[cfg(test)]
mod tests;
