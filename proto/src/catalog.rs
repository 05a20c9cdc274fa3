//! The catalog's prefix tree on the wire: a header, then its file in pieces.

use crate::{
    WireError,
    error::digest,
    transport::CHUNK_BYTES,
    v1::{self, catalog_chunk::Part},
};
use bytes::Bytes;
use riser_core::{digest::Digest, prefix_tree::PrefixTree};

/// A tree ready to be sent any number of times.
#[derive(Debug, Clone)]
pub struct CatalogFile {
    digest: Digest,
    bytes: Bytes,
}

impl CatalogFile {
    /// Prepares `tree` for sending.
    pub fn new(tree: &PrefixTree) -> Self {
        Self { digest: tree.digest(), bytes: tree.to_bytes().into() }
    }

    /// The messages that carry it.
    pub fn chunks(&self) -> impl Iterator<Item = v1::CatalogChunk> + Send + use<> {
        let bytes = self.bytes.clone();
        let header =
            v1::CatalogHeader { digest: self.digest.as_bytes().to_vec().into(), total_bytes: bytes.len() as u64 };
        let data = (0..bytes.len())
            .step_by(CHUNK_BYTES)
            .map(move |start| Part::Data(bytes.slice(start..bytes.len().min(start + CHUNK_BYTES))));
        std::iter::once(Part::Header(header)).chain(data).map(|part| v1::CatalogChunk { part: Some(part) })
    }
}

/// Puts a tree together from pieces.
#[derive(Debug)]
pub struct CatalogAssembler {
    max_bytes: u64,
    header: Option<(Digest, u64)>,
    data: Vec<u8>,
}

impl CatalogAssembler {
    /// An assembler that refuses trees of more than `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, header: None, data: Vec::new() }
    }

    /// Takes the next piece; returns the tree once all its bytes are there and its digest is the announced one.
    ///
    /// # Errors
    /// [`WireError`] if the piece is out of place or the tree is damaged.
    pub fn push(&mut self, chunk: v1::CatalogChunk) -> Result<Option<PrefixTree>, WireError> {
        match (chunk.part.ok_or(WireError::Missing { field: "part" })?, self.header) {
            (Part::Header(header), None) => {
                let v1::CatalogHeader { digest: bytes, total_bytes } = header;
                if total_bytes > self.max_bytes {
                    let limit = self.max_bytes;
                    return Err(WireError::TooLarge { field: "total_bytes", got: total_bytes, limit });
                }
                self.header = Some((digest("digest", &bytes)?, total_bytes));
            }
            (Part::Data(data), Some((_, announced))) => {
                let got = self.data.len() as u64 + data.len() as u64;
                if got > announced {
                    return Err(WireError::Overrun { what: "catalog", got, announced });
                }
                self.data.extend_from_slice(&data);
            }
            (Part::Header(_), Some(_)) => {
                return Err(WireError::Unexpected { expected: "catalog data", got: "a catalog header" });
            }
            (Part::Data(_), None) => {
                return Err(WireError::Unexpected { expected: "a catalog header", got: "catalog data" });
            }
        }
        match self.header {
            Some((announced, total)) if self.data.len() as u64 == total => {
                let tree = PrefixTree::from_bytes(&self.data, "received from the coordinator")?;
                if tree.digest() != announced {
                    return Err(WireError::Mismatch { what: "catalog".into(), got: tree.digest(), announced });
                }
                Ok(Some(tree))
            }
            _ => Ok(None),
        }
    }
}
