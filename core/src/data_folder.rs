//! The folder that `riser prepare` writes and everything else reads.
//!
//! ```text
//! items.parquet           index, id, title, tokens (the spelling, end token included)
//! train|valid|test.parquet   row, user, history (item indices, oldest first), target, time
//! rl_train|rl_valid.parquet  split, row: whose histories are the prompts of the reinforcement stage
//! tokenizer.json, tokenizer_config.json, template.toml   how titles become tokens
//! prefix_tree.bin         the catalog as a prefix tree, memory-mapped when opened
//! report.json, report.md  the data report
//! manifest.json           written last: digest and size of every file, options, counts
//! ```
//!
//! The folder's digest covers the data and the spelling but neither the report nor the options: two preparations with the same
//! result have the same digest, whatever was written about them.

mod manifest;
pub mod tables;

pub use manifest::{Counts, FileEntry, Manifest, SourceFile};

use crate::{
    atomic_file,
    dataset::{Dataset, DatasetError, Row, Split},
    digest::Digest,
    ids::{ItemIndex, RowId},
    prefix_tree::{OpenError, PrefixTree},
    report::Report,
    spelling::{Speller, SpellingError, Template},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Version of the folder's layout.
pub const FORMAT: u32 = 1;

/// Name of the tokenizer file.
pub const TOKENIZER: &str = "tokenizer.json";
/// Name of the file with the tokenizer's metadata, if there is any.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Name of the prefix tree file.
pub const PREFIX_TREE: &str = "prefix_tree.bin";
pub(crate) const TEMPLATE: &str = "template.toml";
const ITEMS: &str = "items.parquet";
const RL_TRAIN: &str = "rl_train.parquet";
const RL_VALID: &str = "rl_valid.parquet";
const REPORT_JSON: &str = "report.json";
const REPORT_MD: &str = "report.md";
const MANIFEST: &str = "manifest.json";

/// Why a data folder cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// The file system refused.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// There is no manifest.
    #[error("`{path}` is not a data folder: it has no manifest.json")]
    NoManifest {
        /// The folder.
        path: String,
    },
    /// The manifest of another layout.
    #[error("`{path}` has format {format}, this program reads {FORMAT}")]
    Format {
        /// The folder.
        path: String,
        /// Its format.
        format: u32,
    },
    /// A file is not the one that was written.
    #[error("`{path}` has digest {found}, the manifest says {expected}")]
    Changed {
        /// The file.
        path: String,
        /// Its digest.
        found: Digest,
        /// The digest of the manifest.
        expected: Digest,
    },
    /// A file that does not hold what it should.
    #[error("`{path}`: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Items and rows do not fit together.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Tokenizer and template do not fit together.
    #[error(transparent)]
    Spelling(#[from] SpellingError),
    /// The prefix tree cannot be opened.
    #[error(transparent)]
    PrefixTree(#[from] OpenError),
}

impl DataFolderError {
    fn content(path: &Path, reason: impl ToString) -> Self {
        Self::Content { path: path.display().to_string(), reason: reason.to_string() }
    }

    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.display().to_string(), source }
    }
}

/// A row named by its split and its position.
pub type PromptRow = (Split, RowId);

/// What goes into a data folder.
pub(crate) struct Contents<'a> {
    pub(crate) dataset: &'a Dataset,
    pub(crate) item_tokens: &'a [Vec<u32>],
    pub(crate) speller: &'a Speller,
    /// The metadata beside the tokenizer, as text.
    pub(crate) tokenizer_config: Option<String>,
    pub(crate) tree: &'a PrefixTree,
    pub(crate) rl_train: &'a [PromptRow],
    pub(crate) rl_valid: &'a [PromptRow],
    pub(crate) report: &'a Report,
    pub(crate) options: serde_json::Value,
    pub(crate) sources: Vec<SourceFile>,
}

/// An opened data folder.
#[derive(Clone)]
pub struct DataFolder {
    path: PathBuf,
    manifest: Manifest,
    dataset: Dataset,
    speller: Speller,
    tree: PrefixTree,
    rl_train: Vec<PromptRow>,
    rl_valid: Vec<PromptRow>,
}

impl DataFolder {
    /// Opens a folder after comparing every file with the manifest.
    ///
    /// # Errors
    /// [`DataFolderError`] names the file that is missing, changed or not understood.
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let manifest = Manifest::read(path)?;
        for (name, entry) in &manifest.files {
            let file = path.join(name);
            let bytes = std::fs::read(&file).map_err(|error| DataFolderError::io(&file, error))?;
            let found = Digest::of(&bytes);
            if found != entry.digest {
                let path = file.display().to_string();
                return Err(DataFolderError::Changed { path, found, expected: entry.digest });
            }
        }
        let template_file = path.join(TEMPLATE);
        let text =
            std::fs::read_to_string(&template_file).map_err(|error| DataFolderError::io(&template_file, error))?;
        let template: Template =
            toml::from_str(&text).map_err(|error| DataFolderError::content(&template_file, error))?;
        let items = tables::read_items(&path.join(ITEMS))?;
        let rows = |split: Split| tables::read_rows(&path.join(rows_file(split)));
        let dataset = Dataset::new(items, rows(Split::Train)?, rows(Split::Valid)?, rows(Split::Test)?)?;
        let tree = PrefixTree::open(&path.join(PREFIX_TREE))?;
        if tree.num_items() != dataset.items().len() {
            let reason = format!("{} items, but {ITEMS} has {}", tree.num_items(), dataset.items().len());
            return Err(DataFolderError::content(&path.join(PREFIX_TREE), reason));
        }
        let prompts = |name: &str| tables::read_prompts(&path.join(name), &dataset);
        let (rl_train, rl_valid) = (prompts(RL_TRAIN)?, prompts(RL_VALID)?);
        let speller = Speller::open(&path.join(TOKENIZER), template)?;
        Ok(Self { path: path.to_owned(), manifest, dataset, speller, tree, rl_train, rl_valid })
    }

    /// Writes a folder, manifest last. An older folder at the same place stops being one before its first file changes.
    pub(crate) fn write(path: &Path, contents: Contents<'_>) -> Result<Manifest, DataFolderError> {
        std::fs::create_dir_all(path).map_err(|error| DataFolderError::io(path, error))?;
        let manifest_file = path.join(MANIFEST);
        match std::fs::remove_file(&manifest_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DataFolderError::io(&manifest_file, error));
            }
            _ => {}
        }
        let files = files(path, &contents)?;
        let mut entries = BTreeMap::new();
        for (name, bytes) in &files {
            let file = path.join(name);
            atomic_file::write(&file, bytes).map_err(|error| DataFolderError::io(&file, error))?;
            entries.insert((*name).to_owned(), FileEntry { bytes: bytes.len() as u64, digest: Digest::of(bytes) });
        }
        let manifest = Manifest {
            format: FORMAT,
            digest: manifest::overall(&entries, &[REPORT_JSON, REPORT_MD]),
            counts: Counts::of(&contents),
            files: entries,
            sources: contents.sources,
            options: contents.options,
        };
        atomic_file::write(&manifest_file, manifest.to_json().as_bytes())
            .map_err(|error| DataFolderError::io(&manifest_file, error))?;
        Ok(manifest)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is: counts, options, digests.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Digest of the data and its spelling.
    pub fn digest(&self) -> Digest {
        self.manifest.digest
    }

    /// Items and rows.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// How titles become tokens.
    pub fn speller(&self) -> &Speller {
        &self.speller
    }

    /// The catalog.
    pub fn tree(&self) -> &PrefixTree {
        &self.tree
    }

    /// The tokens of an item, end token included, as they were spelled when the folder was prepared.
    ///
    /// # Panics
    /// If the item is not of this catalog.
    pub fn item_tokens(&self, item: ItemIndex) -> Vec<u32> {
        self.tree.path(self.tree.leaf_of(item))
    }

    /// Rows whose histories are the prompts of the reinforcement stage.
    pub fn rl_train(&self) -> &[PromptRow] {
        &self.rl_train
    }

    /// Rows to watch the reinforcement stage on; disjoint from [`DataFolder::rl_train`].
    pub fn rl_valid(&self) -> &[PromptRow] {
        &self.rl_valid
    }

    /// The row a prompt comes from.
    ///
    /// # Panics
    /// If the row is not of this dataset.
    pub fn row(&self, (split, row): PromptRow) -> &Row {
        &self.dataset.rows(split)[row.0 as usize]
    }

    /// The data report.
    ///
    /// # Errors
    /// [`DataFolderError::Io`] and [`DataFolderError::Content`].
    pub fn report(&self) -> Result<Report, DataFolderError> {
        let path = self.path.join(REPORT_JSON);
        let text = std::fs::read(&path).map_err(|error| DataFolderError::io(&path, error))?;
        serde_json::from_slice(&text).map_err(|error| DataFolderError::content(&path, error))
    }
}

fn rows_file(split: Split) -> &'static str {
    match split {
        Split::Train => "train.parquet",
        Split::Valid => "valid.parquet",
        Split::Test => "test.parquet",
    }
}

/// All files but the manifest, by name.
fn files(path: &Path, contents: &Contents<'_>) -> Result<Vec<(&'static str, Vec<u8>)>, DataFolderError> {
    let table =
        |name: &str, bytes: tables::Encoded| bytes.map_err(|error| DataFolderError::content(&path.join(name), error));
    let dataset = contents.dataset;
    let mut files = vec![(ITEMS, table(ITEMS, tables::write_items(dataset.items(), contents.item_tokens))?)];
    for split in Split::ALL {
        let name = rows_file(split);
        files.push((name, table(name, tables::write_rows(dataset.rows(split)))?));
    }
    files.push((RL_TRAIN, table(RL_TRAIN, tables::write_prompts(contents.rl_train))?));
    files.push((RL_VALID, table(RL_VALID, tables::write_prompts(contents.rl_valid))?));
    files.push((TOKENIZER, contents.speller.tokenizer_json()?.into_bytes()));
    if let Some(config) = &contents.tokenizer_config {
        files.push((TOKENIZER_CONFIG, config.clone().into_bytes()));
    }
    let template = toml::to_string(contents.speller.template()).expect("a template is a table of strings");
    files.push((TEMPLATE, template.into_bytes()));
    files.push((PREFIX_TREE, contents.tree.to_bytes()));
    let report = serde_json::to_vec_pretty(contents.report).expect("a report is a tree of plain values");
    files.push((REPORT_JSON, report));
    files.push((REPORT_MD, contents.report.to_markdown().into_bytes()));
    Ok(files)
}
