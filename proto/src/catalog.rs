//! The catalog on the wire: its manifest, its chunks by digest, and which batch is made with which.

use crate::{WireError, error::digest, v1};
use bytes::Bytes;
use riser_core::{
    catalog::{
        self, CatalogManifest,
        plan::{CatalogPlan, Era},
    },
    digest::Digest,
    prefix_tree::PrefixTree,
};
use std::{collections::HashMap, path::PathBuf};

/// Longest path that is believed, as Linux has it.
const MAX_PATH_BYTES: usize = 4096;

/// A catalog ready to be sent any number of times.
#[derive(Debug, Clone)]
pub struct CatalogFile {
    manifest: CatalogManifest,
    chunks: HashMap<Digest, Bytes>,
}

impl CatalogFile {
    /// Prepares `tree` for sending.
    pub fn new(tree: &PrefixTree) -> Self {
        Self::cut(tree, catalog::CHUNK_BYTES)
    }

    /// Prepares `tree` for sending in chunks of another size than the usual one.
    pub fn cut(tree: &PrefixTree, chunk_bytes: u32) -> Self {
        let bytes = Bytes::from(tree.to_bytes());
        let manifest = CatalogManifest::of(tree.digest(), &bytes, chunk_bytes);
        let slice = |chunk: catalog::Chunk| {
            let (start, end) = (chunk.range.start as usize, chunk.range.end as usize);
            (chunk.digest, bytes.slice(start..end))
        };
        let chunks = manifest.chunks().map(slice).collect();
        Self { manifest, chunks }
    }

    /// What it consists of.
    pub fn manifest(&self) -> &CatalogManifest {
        &self.manifest
    }

    /// Every chunk once, in any order.
    pub fn chunks(&self) -> impl Iterator<Item = (Digest, Bytes)> {
        self.chunks.iter().map(|(digest, bytes)| (*digest, bytes.clone()))
    }

    /// The bytes of a chunk; `None` if it is not one of this catalog.
    ///
    /// # Errors
    /// [`WireError::Digest`] if the request names no digest.
    pub fn chunk(&self, request: &v1::FetchChunkRequest) -> Result<Option<Bytes>, WireError> {
        Ok(self.chunks.get(&digest("digest", &request.digest)?).cloned())
    }
}

/// The question for a catalog by its digest; for the one that the run has now without one.
pub fn description(catalog: Option<Digest>) -> v1::DescribeCatalogRequest {
    v1::DescribeCatalogRequest { catalog: catalog.map(|digest| digest.as_bytes().to_vec().into()).unwrap_or_default() }
}

/// The catalog that a question is for; `None` for the one that the run has now.
///
/// # Errors
/// [`WireError::Digest`] if it is not a digest.
pub fn described(request: &v1::DescribeCatalogRequest) -> Result<Option<Digest>, WireError> {
    let named = Some(&request.catalog).filter(|catalog| !catalog.is_empty());
    named.map(|catalog| digest("catalog", catalog)).transpose()
}

/// A plan as it travels.
pub fn eras(plan: CatalogPlan) -> Vec<v1::CatalogEra> {
    let era = |Era { first_batch, catalog, folder }: Era| v1::CatalogEra {
        first_batch,
        catalog: catalog.as_bytes().to_vec().into(),
        folder: folder.map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    Vec::from(plan).into_iter().map(era).collect()
}

/// Reads a plan.
///
/// # Errors
/// [`WireError`] if there can be no such plan.
pub fn plan(eras: Vec<v1::CatalogEra>) -> Result<CatalogPlan, WireError> {
    let era = |v1::CatalogEra { first_batch, catalog, folder }| {
        let folder = if folder.is_empty() { None } else { Some(path("folder", folder)?) };
        Ok::<_, WireError>(Era { first_batch, catalog: digest("catalogs", &catalog)?, folder })
    };
    let eras: Vec<Era> = eras.into_iter().map(era).collect::<Result<_, _>>()?;
    // The run's own data has no change to lead to.
    if eras.iter().skip(1).any(|era| era.folder.is_none()) {
        return Err(WireError::Path { field: "folder" });
    }
    Ok(CatalogPlan::try_from(eras)?)
}

/// Reads the path of a data folder.
///
/// # Errors
/// [`WireError::Path`] if it is relative, so that it would mean another place to everyone, or longer than any path.
pub fn path(field: &'static str, text: String) -> Result<PathBuf, WireError> {
    let is_path = text.len() <= MAX_PATH_BYTES && text.starts_with('/') && !text.contains('\0');
    if is_path { Ok(text.into()) } else { Err(WireError::Path { field }) }
}

/// The question for one chunk.
pub fn request(chunk: Digest) -> v1::FetchChunkRequest {
    v1::FetchChunkRequest { digest: chunk.as_bytes().to_vec().into() }
}

impl From<&CatalogManifest> for v1::CatalogManifest {
    fn from(manifest: &CatalogManifest) -> Self {
        Self {
            format: catalog::FORMAT,
            catalog: manifest.catalog().as_bytes().to_vec().into(),
            total_bytes: manifest.total_bytes(),
            chunk_bytes: manifest.chunk_bytes(),
            chunks: manifest.chunks().map(|chunk| chunk.digest.as_bytes().to_vec().into()).collect(),
        }
    }
}

/// Reads a manifest for a catalog of at most `max_bytes`.
///
/// # Errors
/// [`WireError`] if it cannot be true.
pub fn manifest(message: &v1::CatalogManifest, max_bytes: u64) -> Result<CatalogManifest, WireError> {
    let v1::CatalogManifest { format, catalog, total_bytes, chunk_bytes, chunks } = message;
    let catalog = digest("catalog", catalog)?;
    let chunks = chunks.iter().map(|chunk| digest("chunks", chunk)).collect::<Result<_, _>>()?;
    Ok(CatalogManifest::received(*format, catalog, *total_bytes, *chunk_bytes, chunks, max_bytes)?)
}
