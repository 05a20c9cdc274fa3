//! The options of a preparation.

use super::PrepareError;
use crate::{
    dataset::{BadRecords, DatasetError, Split, d3::D3Options, interactions::InteractionOptions},
    random::Seed,
    spelling::{BpeSettings, SpellingError, Template},
    synthetic::WorldOptions,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that decides what a data folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareOptions {
    /// What is read.
    pub source: Source,
    /// Most items of a history; the newest are kept.
    #[serde(default = "default_history_length")]
    pub history_length: usize,
    /// What happens to records that cannot be used.
    #[serde(default)]
    pub bad_records: BadRecords,
    /// How titles are cut into tokens.
    #[serde(default)]
    pub tokenizer: TokenizerOptions,
    /// How prompts and items are written.
    #[serde(default)]
    pub template: TemplateOptions,
    /// Where the prompts of the reinforcement stage come from.
    #[serde(default)]
    pub prompts: PromptOptions,
    /// Seed of the draws.
    #[serde(default = "default_seed")]
    pub seed: Seed,
}

fn default_history_length() -> usize {
    10
}

fn default_seed() -> Seed {
    Seed(42)
}

impl PrepareOptions {
    /// The default options for a source.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            history_length: default_history_length(),
            bad_records: BadRecords::default(),
            tokenizer: TokenizerOptions::default(),
            template: TemplateOptions::default(),
            prompts: PromptOptions::default(),
            seed: default_seed(),
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`PrepareError`] names the setting and its value.
    pub fn check(&self) -> Result<(), PrepareError> {
        if self.history_length == 0 {
            return Err(DatasetError::TooSmall { name: "history_length", minimum: 1, value: 0 }.into());
        }
        if !(0.0..1.0).contains(&self.prompts.watch_share) {
            return Err(PrepareError::WatchShare { value: self.prompts.watch_share });
        }
        match &self.source {
            Source::D3(_) => {}
            Source::Interactions(source) => source.split.check()?,
            Source::Synthetic(world) => {
                world.check()?;
                world.split.check()?;
            }
        }
        self.template.template().check().map_err(SpellingError::from)?;
        Ok(())
    }
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A folder of the D3 family, already split.
    D3(D3Options),
    /// A log of interactions and an item list.
    Interactions(InteractionOptions),
    /// A generated world.
    Synthetic(WorldOptions),
}

/// How titles are cut into tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerOptions {
    /// A byte-level BPE tokenizer trained on the titles, for models that start from scratch.
    Train(BpeSettings),
    /// The `tokenizer.json` of a Hugging Face model folder.
    Folder(PathBuf),
}

impl Default for TokenizerOptions {
    fn default() -> Self {
        Self::Train(BpeSettings::default())
    }
}

/// How prompts and items are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateOptions {
    /// [`Template::tokens`].
    #[default]
    Tokens,
    /// [`Template::d3`].
    D3,
    /// One written out.
    Custom(Template),
}

impl TemplateOptions {
    /// The template meant.
    pub fn template(&self) -> Template {
        match self {
            Self::Tokens => Template::tokens(),
            Self::D3 => Template::d3(),
            Self::Custom(template) => template.clone(),
        }
    }
}

/// Where the prompts of the reinforcement stage come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptOptions {
    /// `valid`: the valid rows, split in two by a seeded draw. `train`: the train rows, watched on the valid rows.
    pub source: PromptSource,
    /// Share of the valid rows to watch, for [`PromptSource::Valid`].
    pub watch_share: f64,
}

impl Default for PromptOptions {
    fn default() -> Self {
        Self { source: PromptSource::Valid, watch_share: 0.25 }
    }
}

/// The split that prompts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptSource {
    /// Rows the supervised stage has not learned from.
    Valid,
    /// Rows the supervised stage has learned from.
    Train,
}

impl PromptSource {
    /// The split it names.
    pub fn split(self) -> Split {
        match self {
            Self::Valid => Split::Valid,
            Self::Train => Split::Train,
        }
    }
}
