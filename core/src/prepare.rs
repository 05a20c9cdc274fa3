//! `riser prepare`: from a source of interactions to a data folder.

mod error;
mod options;

pub use error::PrepareError;
pub use options::{PrepareOptions, PromptOptions, PromptSource, Source, TemplateOptions, TokenizerOptions};

use crate::{
    data_folder::{Contents, DataFolder, PromptRow, SourceFile, TOKENIZER, TOKENIZER_CONFIG},
    dataset::{
        Dataset, Dropped, Row, Split,
        d3::{self, D3Options},
        interactions::{self, Log},
        split,
    },
    ids::{ItemIndex, RowId},
    metrics::Rank,
    prefix_tree::{BuildError, PrefixTree},
    random::Seed,
    report::{IdealReport, PromptReport, Report},
    spelling::{Speller, tokenizer_config_json, train_bpe},
    synthetic,
};
use rand::seq::SliceRandom;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

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
    options.check()?;
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
    let source = options.prompts.source;
    let prompts =
        PromptReport { source: source.split(), rl_train: rl_train.len() as u64, rl_valid: rl_valid.len() as u64 };
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
    if train.is_empty() {
        return Err(PrepareError::NoPrompts { split: options.source.split() });
    }
    Ok((train, valid))
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
            BuildError::EmptyItem { item } | BuildError::TooLong { item, .. } | BuildError::EndsInside { item, .. } => {
                item
            }
            BuildError::Empty | BuildError::TooLarge => 0,
        };
        PrepareError::Tree { id: dataset.item(ItemIndex(item)).id.clone(), source }
    })
}

fn ideal_of_test(dataset: &Dataset, ranks: &HashMap<(String, i64), Rank>) -> IdealReport {
    let rank = |row: &Row| {
        let key = row.user.clone().zip(row.time).expect("generated rows have user and time");
        ranks[&key]
    };
    IdealReport::of(&dataset.rows(Split::Test).iter().map(rank).collect::<Vec<_>>())
}

#[cfg(test)]
mod real_data;
#[cfg(test)]
mod tests;
