//! `manifest.json`: what a data folder holds, and how to tell that it still does.

use super::{Contents, DataFolderError, FORMAT, MANIFEST};
use crate::{dataset::Split, digest::Digest};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// The manifest of a data folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// Digest of the data and its spelling: of the names and digests of all files but the reports.
    pub digest: Digest,
    /// Sizes at a glance.
    pub counts: Counts,
    /// Every file by name.
    pub files: BTreeMap<String, FileEntry>,
    /// What was read.
    pub sources: Vec<SourceFile>,
    /// The options of the preparation.
    pub options: serde_json::Value,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its size.
    pub bytes: u64,
    /// Digest of its content.
    pub digest: Digest,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Where it lay.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Digest of its content.
    pub digest: Digest,
}

impl SourceFile {
    /// Describes a file.
    ///
    /// # Errors
    /// [`DataFolderError::Io`].
    pub fn of(path: &Path) -> Result<Self, DataFolderError> {
        let bytes = std::fs::read(path).map_err(|error| DataFolderError::io(path, error))?;
        Ok(Self { path: path.display().to_string(), bytes: bytes.len() as u64, digest: Digest::of(&bytes) })
    }
}

/// Sizes of a data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Items of the catalog.
    pub items: u64,
    /// Distinct spellings.
    pub leaves: u64,
    /// Nodes of the prefix tree.
    pub nodes: u64,
    /// Tokens a policy must know.
    pub vocab_size: u64,
    /// Rows.
    pub train: u64,
    /// Rows.
    pub valid: u64,
    /// Rows.
    pub test: u64,
    /// Prompts.
    pub rl_train: u64,
    /// Prompts.
    pub rl_valid: u64,
}

impl Counts {
    pub(super) fn of(contents: &Contents<'_>) -> Self {
        let rows = |split| contents.dataset.rows(split).len() as u64;
        Self {
            items: contents.dataset.items().len() as u64,
            leaves: contents.report.spelling.leaves,
            nodes: contents.report.spelling.nodes,
            vocab_size: contents.speller.vocab_size() as u64,
            train: rows(Split::Train),
            valid: rows(Split::Valid),
            test: rows(Split::Test),
            rl_train: contents.rl_train.len() as u64,
            rl_valid: contents.rl_valid.len() as u64,
        }
    }
}

impl Manifest {
    /// Reads the manifest of a folder.
    ///
    /// # Errors
    /// [`DataFolderError::NoManifest`], [`DataFolderError::Format`], [`DataFolderError::Io`] and
    /// [`DataFolderError::Content`].
    pub fn read(folder: &Path) -> Result<Self, DataFolderError> {
        let path = folder.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(DataFolderError::NoManifest { path: folder.display().to_string() });
            }
            other => other.map_err(|error| DataFolderError::io(&path, error))?,
        };
        // The format first: a manifest of another layout need not have the fields of this one.
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| DataFolderError::content(&path, error))?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
        if format != FORMAT {
            return Err(DataFolderError::Format { path: folder.display().to_string(), format });
        }
        serde_json::from_value(value).map_err(|error| DataFolderError::content(&path, error))
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest is a tree of plain values")
    }
}

/// The digest of a folder from those of its files, without the ones in `left_out`.
pub(super) fn overall(files: &BTreeMap<String, FileEntry>, left_out: &[&str]) -> Digest {
    let parts = files.iter().filter(|(name, _)| !left_out.contains(&name.as_str()));
    Digest::of_parts(parts.map(|(name, entry)| (name.as_str(), entry.digest.as_bytes().as_slice())))
}
