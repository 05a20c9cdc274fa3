//! `riser prepare`: from a source of interactions to a data folder.

use crate::{
    data_folder::{Contents, DataFolder, DataFolderError, PromptRow, SourceFile, TOKENIZER, TOKENIZER_CONFIG},
    dataset::{
        BadRecords, Dataset, DatasetError, Dropped, Split,
        d3::{self, D3Options},
        interactions::{self, InteractionOptions, Log},
        split,
    },
    ids::{ItemIndex, RowId},
    metrics::Rank,
    prefix_tree::{BuildError, PrefixTree},
    random::Seed,
    report::{IdealReport, PromptReport, Report},
    spelling::{BpeSettings, Speller, SpellingError, Template, tokenizer_config_json, train_bpe},
    synthetic::{self, WorldError, WorldOptions},
};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

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
    fn template(&self) -> Template {
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

/// Why a preparation ended.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The source.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The generated world.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The tokenizer or the template.
    #[error(transparent)]
    Spelling(#[from] SpellingError),
    /// An item that cannot be spelled.
    #[error("item `{id}`: {source}")]
    Item {
        /// Its id.
        id: String,
        /// Why.
        source: SpellingError,
    },
    /// The catalog cannot be a prefix tree.
    #[error("item `{id}`: {source}")]
    Tree {
        /// Id of the first item concerned.
        id: String,
        /// Why.
        source: BuildError,
    },
    /// The output folder.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// A share outside 0 to 1.
    #[error("`prompts.watch_share` must be at least 0 and less than 1, got {value}")]
    WatchShare {
        /// Its value.
        value: f64,
    },
    /// No rows to draw prompts from.
    #[error("there are no prompts: the {} split is empty", .split.name())]
    NoPrompts {
        /// The split.
        split: Split,
    },
}

/// A part of a preparation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading or generating items and rows.
    Read,
    /// Training or reading the tokenizer.
    Tokenizer,
    /// Spelling items.
    Spell,
    /// Building the prefix tree.
    Tree,
    /// Measuring for the report.
    Measure,
    /// Writing files.
    Write,
    /// Opening and verifying what was written.
    Verify,
}

/// How far a preparation is. Every stage begins with `done = 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressEvent {
    /// The part.
    pub stage: Stage,
    /// Steps done.
    pub done: u64,
    /// Steps of this part.
    pub total: u64,
}

/// Prepares a data folder at `output` and opens it.
///
/// # Errors
/// [`PrepareError`]; after one there is no data folder at `output`, unless it came before anything was written.
pub fn prepare(
    options: &PrepareOptions,
    output: &Path,
    progress: &mut dyn FnMut(ProgressEvent),
) -> Result<DataFolder, PrepareError> {
    let mut begin = |stage| progress(ProgressEvent { stage, done: 0, total: 1 });
    check(options)?;
    begin(Stage::Read);
    let Loaded { dataset, dropped, ideal, sources } = load(options)?;
    let (rl_train, rl_valid) = draw_prompts(&dataset, &options.prompts, options.seed)?;

    begin(Stage::Tokenizer);
    let (speller, tokenizer_config) = speller(options, &dataset)?;
    let item_tokens = spell_items(&speller, &dataset, progress)?;
    let mut begin = |stage| progress(ProgressEvent { stage, done: 0, total: 1 });
    begin(Stage::Tree);
    let tree = build_tree(&item_tokens, &dataset)?;

    begin(Stage::Measure);
    let source = match options.prompts.source {
        PromptSource::Valid => Split::Valid,
        PromptSource::Train => Split::Train,
    };
    let prompts = PromptReport { source, rl_train: rl_train.len() as u64, rl_valid: rl_valid.len() as u64 };
    let ideal = ideal.map(|ranks| ideal_of_test(&dataset, &ranks));
    let report = Report::measure(&dataset, &tree, options.history_length, prompts, dropped, ideal);

    begin(Stage::Write);
    let contents = Contents {
        dataset: &dataset,
        item_tokens: &item_tokens,
        speller: &speller,
        tokenizer_config,
        tree: &tree,
        rl_train: &rl_train,
        rl_valid: &rl_valid,
        report: &report,
        options: serde_json::to_value(options).expect("options are a tree of plain values"),
        sources,
    };
    DataFolder::write(output, contents)?;
    begin(Stage::Verify);
    Ok(DataFolder::open(output)?)
}

fn check(options: &PrepareOptions) -> Result<(), PrepareError> {
    if options.history_length == 0 {
        return Err(DatasetError::TooSmall { name: "history_length", minimum: 1, value: 0 }.into());
    }
    if !(0.0..1.0).contains(&options.prompts.watch_share) {
        return Err(PrepareError::WatchShare { value: options.prompts.watch_share });
    }
    match &options.source {
        Source::D3(_) => {}
        Source::Interactions(source) => source.split.check()?,
        Source::Synthetic(world) => {
            world.check()?;
            world.split.check()?;
        }
    }
    options.template.template().check().map_err(SpellingError::from)?;
    Ok(())
}

/// What a source gave.
struct Loaded {
    dataset: Dataset,
    dropped: Dropped,
    /// For generated worlds: rank of each pick by user and time.
    ideal: Option<HashMap<(String, i64), Rank>>,
    sources: Vec<SourceFile>,
}

fn load(options: &PrepareOptions) -> Result<Loaded, PrepareError> {
    let describe = |files: &[PathBuf]| files.iter().map(|file| SourceFile::of(file)).collect::<Result<Vec<_>, _>>();
    let cut = |log: Log, rule: &split::SplitOptions| split::split(log, rule, options.history_length);
    Ok(match &options.source {
        Source::D3(D3Options { path }) => {
            let (dataset, dropped) = d3::read(path, options.history_length, options.bad_records)?;
            Loaded { dataset, dropped, ideal: None, sources: describe(&d3::files(path)?)? }
        }
        Source::Interactions(source) => {
            let mut log = interactions::read(source, options.bad_records)?;
            let dropped = std::mem::take(&mut log.dropped);
            let sources = describe(&[source.items.clone(), source.interactions.clone()])?;
            Loaded { dataset: cut(log, &source.split)?, dropped, ideal: None, sources }
        }
        Source::Synthetic(world) => {
            let generated = synthetic::generate(world, options.seed)?;
            let (dataset, dropped) = (cut(generated.log, &world.split)?, Dropped::default());
            Loaded { dataset, dropped, ideal: Some(generated.ideal), sources: Vec::new() }
        }
    })
}

/// The rows to sample for and the rows to watch, each in row order.
fn draw_prompts(
    dataset: &Dataset,
    options: &PromptOptions,
    seed: Seed,
) -> Result<(Vec<PromptRow>, Vec<PromptRow>), PrepareError> {
    let rows = |split: Split| (0..dataset.rows(split).len() as u32).map(move |row| (split, RowId(row)));
    let (train, valid): (Vec<_>, Vec<_>) = match options.source {
        PromptSource::Train => (rows(Split::Train).collect(), rows(Split::Valid).collect()),
        PromptSource::Valid => {
            let mut drawn: Vec<PromptRow> = rows(Split::Valid).collect();
            drawn.shuffle(&mut seed.stream("rl prompts", &[]));
            let watched = (drawn.len() as f64 * options.watch_share).round() as usize;
            let mut train = drawn.split_off(watched);
            train.sort_by_key(|(_, row)| *row);
            drawn.sort_by_key(|(_, row)| *row);
            (train, drawn)
        }
    };
    match (train.is_empty(), options.source) {
        (false, _) => Ok((train, valid)),
        (true, PromptSource::Valid) => Err(PrepareError::NoPrompts { split: Split::Valid }),
        (true, PromptSource::Train) => Err(PrepareError::NoPrompts { split: Split::Train }),
    }
}

/// The speller and the metadata that goes with its tokenizer.
fn speller(options: &PrepareOptions, dataset: &Dataset) -> Result<(Speller, Option<String>), PrepareError> {
    let template = options.template.template();
    match &options.tokenizer {
        TokenizerOptions::Train(settings) => {
            let titles: Vec<&str> = dataset.items().iter().map(|item| item.title.as_str()).collect();
            let tokenizer = train_bpe(&titles, settings)?;
            Ok((Speller::new(tokenizer, template)?, Some(tokenizer_config_json())))
        }
        TokenizerOptions::Folder(folder) => {
            let speller = Speller::open(&folder.join(TOKENIZER), template)?;
            Ok((speller, std::fs::read_to_string(folder.join(TOKENIZER_CONFIG)).ok()))
        }
    }
}

fn spell_items(
    speller: &Speller,
    dataset: &Dataset,
    progress: &mut dyn FnMut(ProgressEvent),
) -> Result<Vec<Vec<u32>>, PrepareError> {
    let total = dataset.items().len() as u64;
    let mut spelled = Vec::with_capacity(dataset.items().len());
    for (done, item) in dataset.items().iter().enumerate() {
        if done % 1000 == 0 {
            progress(ProgressEvent { stage: Stage::Spell, done: done as u64, total });
        }
        let tokens = speller.item_tokens(&item.title);
        spelled.push(tokens.map_err(|source| PrepareError::Item { id: item.id.clone(), source })?);
    }
    Ok(spelled)
}

fn build_tree(item_tokens: &[Vec<u32>], dataset: &Dataset) -> Result<PrefixTree, PrepareError> {
    PrefixTree::build(item_tokens).map_err(|source| {
        let item = match source {
            BuildError::EmptyItem { item } | BuildError::TooLong { item, .. } | BuildError::EndsInside { item, .. } => item,
            BuildError::Empty | BuildError::TooLarge => 0,
        };
        PrepareError::Tree { id: dataset.item(ItemIndex(item)).id.clone(), source }
    })
}

fn ideal_of_test(dataset: &Dataset, ranks: &HashMap<(String, i64), Rank>) -> IdealReport {
    let rank = |row: &crate::dataset::Row| {
        let key = row.user.clone().zip(row.time).expect("generated rows have user and time");
        ranks[&key]
    };
    IdealReport::of(&dataset.rows(Split::Test).iter().map(rank).collect::<Vec<_>>())
}

#[cfg(test)]
mod real_data;
#[cfg(test)]
mod tests;
