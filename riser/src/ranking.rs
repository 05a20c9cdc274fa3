//! Ranks items for many rows at once, on all cores.

use crate::measurement::Ranking;
use crate::outlook::Outlook;
use crate::roles::NextCatalog;
use riser_core::config::{EvaluateConfig, EvaluationSplit, SearchMethod};
use riser_core::data_folder::{DataFolder, DataFolderError, PromptRow};
use riser_core::dataset::Split;
use riser_core::ids::{ItemIndex, NodeId, RowId};
use riser_core::logprob_space::LogprobSpace;
use riser_core::prefix_tree::PrefixTree;
use riser_core::spelling::SpellingError;
use riser_policy::core_tree::CoreTree;
use riser_policy::distribution::Distribution;
use riser_policy::inference::Inference;
use riser_policy::ranking::Ranked;
use riser_policy::{TensorError, beam, ranking, search};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows that one thread searches for at a time.
pub const ROWS_PER_CHUNK: usize = 16;

/// How items are ranked.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// Exact, by beams, or by the whole distribution.
    pub method: SearchMethod,
    /// Number of beams, if by beams.
    pub beam_width: usize,
    /// Items ranked for each row.
    pub top_k: usize,
    /// Softmax whose log-probabilities rank.
    pub space: LogprobSpace,
    /// Longest prompt.
    pub max_prompt_tokens: usize,
    /// Threads that search at the same time.
    pub threads: NonZeroUsize,
}

impl Search {
    /// What a configuration says.
    pub fn of(evaluate: &EvaluateConfig, max_prompt_tokens: usize, threads: NonZeroUsize) -> Self {
        let EvaluateConfig { method, beam_width, top_k, space, .. } = *evaluate;
        Self { method, beam_width, top_k, space, max_prompt_tokens, threads }
    }

    /// The best spellings of `tree` after each prompt, best first; for a list alone, `full` is `exact`.
    ///
    /// # Errors
    /// Whatever the model reports.
    pub fn spellings(
        &self,
        inference: &Inference,
        tree: &PrefixTree,
        prompts: &[&[u32]],
    ) -> Result<Vec<Vec<Ranked>>, TensorError> {
        match self.method {
            SearchMethod::Exact | SearchMethod::Full => search::top_k(inference, tree, self.space, prompts, self.top_k),
            SearchMethod::Beam => beam::beam_search(inference, tree, self.space, prompts, self.beam_width),
        }
    }
}

/// Why rows cannot be ranked.
#[derive(Debug, thiserror::Error)]
pub enum RankingError {
    /// The model failed.
    #[error("model: {0}")]
    Model(#[from] TensorError),
    /// A history cannot be written as a prompt.
    #[error("row {row} of the {} split: {source}", split.name())]
    Prompt {
        /// Split of the row.
        split: Split,
        /// The row.
        row: RowId,
        /// Why.
        source: SpellingError,
    },
    /// The data folder failed.
    #[error(transparent)]
    Data(#[from] DataFolderError),
}

/// The first `limit` rows of a split, all of them if `limit` is 0.
pub fn rows(data: &DataFolder, split: EvaluationSplit, limit: usize) -> Vec<PromptRow> {
    let of_split = |split: Split| (0..data.dataset().rows(split).len() as u32).map(|row| (split, RowId(row))).collect();
    let mut rows: Vec<PromptRow> = match split {
        EvaluationSplit::Valid => of_split(Split::Valid),
        EvaluationSplit::Test => of_split(Split::Test),
        EvaluationSplit::RlValid => data.rl_valid().to_vec(),
    };
    if limit > 0 {
        rows.truncate(limit);
    }
    rows
}

/// Ranks items for every row. The result does not depend on the number of threads.
///
/// `progress` is told the number of rows done so far, from any thread.
///
/// # Errors
/// The first [`RankingError`] by row.
pub fn rank(
    inference: &Inference,
    data: &DataFolder,
    rows: &[PromptRow],
    search: Search,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Ranking, RankingError> {
    rank_items(inference, data, None, rows, search, progress)
}

/// The same with the items of another catalog, for the rows whose targets are among them.
///
/// # Errors
/// The first [`RankingError`] by row.
pub fn rank_after(
    inference: &Inference,
    data: &DataFolder,
    next: &NextCatalog,
    rows: &[PromptRow],
    search: Search,
) -> Result<Ranking, RankingError> {
    let rows: Vec<PromptRow> = next.change.rows(data, rows).into_iter().map(|(row, _)| row).collect();
    rank_items(inference, data, Some(next), &rows, search, &|_| ())
}

fn rank_items(
    inference: &Inference,
    data: &DataFolder,
    next: Option<&NextCatalog>,
    rows: &[PromptRow],
    search: Search,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Ranking, RankingError> {
    let items_of = next.map_or(data, |next| &next.data);
    let place = |item: ItemIndex| next.map_or(Some(item), |next| next.change.place(item));
    let core = (search.method == SearchMethod::Full).then(|| CoreTree::new(items_of.tree(), search.space));
    let chunks: Vec<&[PromptRow]> = rows.chunks(ROWS_PER_CHUNK).collect();
    let results: Vec<OnceLock<Result<Vec<Found>, RankingError>>> = chunks.iter().map(|_| OnceLock::new()).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(index) else { break };
            results[index].get_or_init(|| {
                let prompts = prompts(data, chunk, search)?;
                let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
                let Some(core) = &core else {
                    return Ok(search
                        .spellings(inference, items_of.tree(), &prompts)?
                        .into_iter()
                        .map(Found::from)
                        .collect());
                };
                let of_row = |(leaves, &row)| Found::of(leaves, items_of.tree(), place(data.row(row).target), search);
                // A distribution is as large as the catalog, so it is summed up before the next ones are made.
                let (mut found, size) = (vec![], core.prompts_per_pass());
                for (prompts, rows) in prompts.chunks(size).zip(chunk.chunks(size)) {
                    found.extend(core.leaf_logprobs(inference, prompts)?.into_iter().zip(rows).map(of_row));
                }
                Ok(found)
            });
            progress(done.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..search.threads.get().min(chunks.len()) {
            scope.spawn(work);
        }
    });
    let mut ranking = Ranking::default();
    let mut spelled = Spelled::default();
    for (chunk, result) in chunks.iter().zip(results) {
        let found = result.into_inner().expect("every chunk was taken by a thread")?;
        for (row, Found { list, outlook }) in chunk.iter().zip(found) {
            let row = data.row(*row);
            let is_invalid = |ranked: &&Ranked| !spelled.is_item(items_of, ranked.leaf);
            ranking.invalid_items += list.iter().filter(is_invalid).count() as u64;
            let mut items: Vec<ItemIndex> =
                ranking::items(items_of.tree(), &list).into_iter().map(|(item, _)| item).collect();
            items.truncate(search.top_k);
            // Rows whose targets went have been left out; of a history, only what is still an item can be repeated.
            let Some(target) = place(row.target) else { continue };
            let history: Vec<ItemIndex> = row.history.iter().copied().filter_map(place).collect();
            ranking.record(items, outlook, target, &history, row.user.as_deref());
        }
    }
    Ok(ranking)
}

/// What was found for one row.
struct Found {
    /// Best first.
    list: Vec<Ranked>,
    /// Where the whole distribution was computed.
    outlook: Option<Outlook>,
}

impl From<Vec<Ranked>> for Found {
    fn from(list: Vec<Ranked>) -> Self {
        Self { list, outlook: None }
    }
}

impl Found {
    /// Sums up a distribution; every leaf of `catalog` is among `leaves`.
    fn of(leaves: Vec<Ranked>, catalog: &PrefixTree, target: Option<ItemIndex>, search: Search) -> Self {
        let distribution = Distribution::new(leaves);
        let outlook = target.and_then(|target| Outlook::of(&distribution, catalog, target));
        Self { list: distribution.ranked().iter().take(search.top_k).copied().collect(), outlook }
    }
}

fn prompts(data: &DataFolder, rows: &[PromptRow], search: Search) -> Result<Vec<Vec<u32>>, RankingError> {
    let prompt = |&(split, row): &PromptRow| {
        let titles = data.dataset().history_titles(data.row((split, row)));
        let tokens = data.speller().prompt_tokens(&titles, search.max_prompt_tokens);
        tokens.map_err(|source| RankingError::Prompt { split, row, source })
    };
    rows.iter().map(prompt).collect()
}

/// Spells recommended items anew and remembers the answer: the proof that what a policy generated is an item does not
/// rest on the tree it was generated from.
#[derive(Default)]
struct Spelled(HashMap<NodeId, bool>);

impl Spelled {
    fn is_item(&mut self, data: &DataFolder, leaf: NodeId) -> bool {
        *self.0.entry(leaf).or_insert_with(|| {
            let (generated, items) = (data.tree().path(leaf), data.tree().items_at(leaf));
            let is_spelled = |item: &ItemIndex| {
                let title = &data.dataset().item(*item).title;
                data.speller().item_tokens(title).is_ok_and(|tokens| tokens == generated)
            };
            !items.is_empty() && items.iter().all(is_spelled)
        })
    }
}
