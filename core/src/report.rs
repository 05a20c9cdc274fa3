//! The data report: what a person should know about a dataset before training on it.

mod markdown;
mod rows;
mod spelling;

pub use rows::{SplitReport, Summary};
pub use spelling::SpellingReport;

use crate::{
    baselines::{CountingRules, RankScore, Rule},
    dataset::{Dataset, Dropped, Row, Split},
    metrics::{Metric, Rank},
    prefix_tree::PrefixTree,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How items that are spelled alike count; printed in every report.
pub const SAME_SPELLING_RULE: &str = "Items spelled alike share one leaf of the prefix tree, and the leaf lists them all. A generated \
     completion hits if the target is among the items of its leaf. Ranked lists name items, not titles: the items of a leaf take \
     consecutive ranks in catalog order, so HR and NDCG count by item id.";

/// Everything measured about a data folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Items of the catalog.
    pub items: u64,
    /// Words of the titles, split at spaces.
    pub title_words: Summary,
    /// Items whose title an earlier item has.
    pub repeated_titles: u64,
    /// Items whose title another item has too.
    pub items_with_repeated_title: u64,
    /// How such items count.
    pub same_spelling_rule: String,
    /// Records of the source that were left out.
    pub dropped: Dropped,
    /// The three splits.
    pub splits: Vec<SplitReport>,
    /// Prompts of the reinforcement stage.
    pub prompts: PromptReport,
    /// The prefix tree.
    pub spelling: SpellingReport,
    /// Counting rules on the test split.
    pub baselines: Vec<BaselineReport>,
    /// For generated data: the predictor that knows the generator's probabilities, an upper bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ideal: Option<IdealReport>,
}

/// The rows whose histories are the prompts of the reinforcement stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptReport {
    /// The split they come from.
    pub source: Split,
    /// Rows to sample for.
    pub rl_train: u64,
    /// Rows to watch, disjoint from those.
    pub rl_valid: u64,
}

/// One counting rule on the test split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineReport {
    /// The rule.
    pub rule: Rule,
    /// Whether the valid rows were counted as well as the train rows.
    pub with_valid: bool,
    /// On all test rows.
    pub all: RankScore,
    /// On the test rows whose target is not in their own history.
    pub unseen: RankScore,
}

/// The best any predictor can do on generated data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdealReport {
    /// HR@1.
    pub hit_ratio_at_1: f64,
    /// At the usual cutoffs.
    pub score: RankScore,
}

impl IdealReport {
    /// The score of targets that have these ranks under the generator's own probabilities.
    pub fn of(ranks: &[Rank]) -> Self {
        let ranks: Vec<Option<Rank>> = ranks.iter().copied().map(Some).collect();
        Self { hit_ratio_at_1: Metric::HitRatio.mean(&ranks, 1).unwrap_or(0.0), score: RankScore::of(&ranks) }
    }
}

impl Report {
    /// Measures a dataset and its prefix tree.
    pub fn measure(
        dataset: &Dataset,
        tree: &PrefixTree,
        history_length: usize,
        prompts: PromptReport,
        dropped: Dropped,
        ideal: Option<IdealReport>,
    ) -> Self {
        let mut title_count: HashMap<&str, u64> = HashMap::new();
        dataset.items().iter().for_each(|item| *title_count.entry(&item.title).or_default() += 1);
        let repeated: Vec<u64> = title_count.into_values().filter(|&count| count > 1).collect();
        let words = dataset.items().iter().map(|item| item.title.split_whitespace().count());
        Self {
            items: dataset.items().len() as u64,
            title_words: Summary::of(words),
            repeated_titles: repeated.iter().map(|count| count - 1).sum(),
            items_with_repeated_title: repeated.iter().sum(),
            same_spelling_rule: SAME_SPELLING_RULE.to_owned(),
            dropped,
            splits: Split::ALL.into_iter().map(|split| SplitReport::measure(dataset, split, history_length)).collect(),
            prompts,
            spelling: SpellingReport::measure(tree, dataset.rows(Split::Test)),
            baselines: baselines(dataset),
            ideal,
        }
    }

    /// The report as a page for a person.
    pub fn to_markdown(&self) -> String {
        markdown::write(self)
    }
}

/// All rules on the test rows, counted on train and on train and valid.
pub(crate) fn baselines(dataset: &Dataset) -> Vec<BaselineReport> {
    let train: Vec<&Row> = dataset.rows(Split::Train).iter().collect();
    let both: Vec<&Row> = train.iter().copied().chain(dataset.rows(Split::Valid)).collect();
    let test = dataset.rows(Split::Test);
    let mut reports = Vec::new();
    for (with_valid, rows) in [(false, train), (true, both)] {
        let rules = CountingRules::fit(dataset.items(), &rows);
        for rule in Rule::ALL {
            let all = rules.score(rule, test);
            let unseen = rules.score(rule, test.iter().filter(|row| !row.history.contains(&row.target)));
            reports.push(BaselineReport { rule, with_valid, all, unseen });
        }
    }
    reports
}

#[cfg(test)]
mod tests;
