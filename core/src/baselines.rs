//! Untuned counting rules: the floor a trained model has to beat.
//!
//! All rank the whole catalog by counts over training rows. Ties are broken in ways that do not depend on the numbering of the
//! items, so that the same data gives the same figures however it is numbered:
//! popularity by id as text, recent popularity by first appearance, followers by popularity and then by id as text.

use crate::{
    dataset::{Item, Row},
    ids::ItemIndex,
    metrics::{Metric, Rank},
};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

/// Ranks at which a rule is measured.
pub const CUTOFFS: [u32; 3] = [5, 10, 20];

/// A counting rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The most frequent targets, the same for everybody.
    Pop,
    /// The same over the last tenth of the training rows, filled up with [`Rule::Pop`].
    RecentPop,
    /// What most often followed the last history item, filled up with [`Rule::Pop`].
    Markov,
    /// The last history item itself, then [`Rule::Markov`].
    MarkovRepeat,
}

impl Rule {
    /// All rules, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Pop, Self::RecentPop, Self::Markov, Self::MarkovRepeat];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pop => "POP",
            Self::RecentPop => "RECENT-POP",
            Self::Markov => "MARKOV",
            Self::MarkovRepeat => "MARKOV+repeat",
        }
    }
}

/// Mean HR and NDCG of one target per row at each of [`CUTOFFS`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RankScore {
    /// Rows measured.
    pub rows: u64,
    /// HR at each cutoff.
    pub hit_ratio: [f64; 3],
    /// NDCG at each cutoff.
    pub ndcg: [f64; 3],
}

impl RankScore {
    /// The score of rows whose targets have these ranks; zero without rows.
    pub fn of(ranks: &[Option<Rank>]) -> Self {
        let mean = |metric: Metric| CUTOFFS.map(|cutoff| metric.mean(ranks, cutoff).unwrap_or(0.0));
        Self { rows: ranks.len() as u64, hit_ratio: mean(Metric::HitRatio), ndcg: mean(Metric::Ndcg) }
    }
}

/// Counts of training rows, ready to rank.
pub struct CountingRules {
    popular: Vec<ItemIndex>,
    recent: Vec<ItemIndex>,
    followers: HashMap<ItemIndex, Vec<ItemIndex>>,
}

impl CountingRules {
    /// Counts rows, which are taken to be in time order.
    pub fn fit(items: &[Item], rows: &[&Row]) -> Self {
        let mut by_id: Vec<usize> = (0..items.len()).collect();
        by_id.sort_by_key(|&index| &items[index].id);
        let mut id_order = vec![0_u32; items.len()];
        by_id.iter().enumerate().for_each(|(order, &index)| id_order[index] = order as u32);
        let id_order = |item: ItemIndex| id_order[item.0 as usize];

        let count = count_targets(rows);
        let mut popular: Vec<_> = count.keys().copied().collect();
        popular.sort_by_key(|&item| (Reverse(count[&item]), id_order(item)));

        let newest = &rows[rows.len() - rows.len() / 10..];
        let recent_count = count_targets(newest);
        let mut seen = HashSet::new();
        let mut recent: Vec<_> = newest.iter().map(|row| row.target).filter(|&item| seen.insert(item)).collect();
        recent.sort_by_key(|item| Reverse(recent_count[item])); // stable: first appearance decides

        let mut follows: HashMap<ItemIndex, HashMap<ItemIndex, u64>> = HashMap::new();
        for row in rows {
            let last = *row.history.last().expect("rows have a history");
            *follows.entry(last).or_default().entry(row.target).or_default() += 1;
        }
        let followers = follows.into_iter().map(|(last, counts)| {
            let mut order: Vec<_> = counts.keys().copied().collect();
            order.sort_by_key(|&item| (Reverse(counts[&item]), Reverse(count[&item]), id_order(item)));
            (last, order)
        });
        Self { popular, recent, followers: followers.collect() }
    }

    /// The first `k` items that a rule recommends after a history.
    pub fn rank(&self, rule: Rule, history: &[ItemIndex], k: usize) -> Vec<ItemIndex> {
        let none: &[ItemIndex] = &[];
        let followers = || history.last().and_then(|last| self.followers.get(last)).map_or(none, Vec::as_slice);
        let (first, second) = match rule {
            Rule::Pop => (none, none),
            Rule::RecentPop => (none, self.recent.as_slice()),
            Rule::Markov => (none, followers()),
            Rule::MarkovRepeat => (&history[history.len().saturating_sub(1)..], followers()),
        };
        let mut taken = HashSet::new();
        let all = first.iter().chain(second).chain(&self.popular).copied();
        all.filter(|item| taken.insert(*item)).take(k).collect()
    }

    /// Measures a rule on rows.
    pub fn score<'a>(&self, rule: Rule, rows: impl IntoIterator<Item = &'a Row>) -> RankScore {
        let deepest = CUTOFFS[CUTOFFS.len() - 1] as usize;
        let rank = |row: &Row| Rank::of(row.target, &self.rank(rule, &row.history, deepest));
        RankScore::of(&rows.into_iter().map(rank).collect::<Vec<_>>())
    }
}

fn count_targets(rows: &[&Row]) -> HashMap<ItemIndex, u64> {
    let mut count = HashMap::new();
    rows.iter().for_each(|row| *count.entry(row.target).or_default() += 1);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RowId;
    use proptest::prelude::*;

    fn items() -> Vec<Item> {
        // Ids that order differently as numbers and as text.
        ["9", "10", "2", "1"].iter().map(|id| Item { id: (*id).to_owned(), title: format!("t{id}") }).collect()
    }

    fn row(history: &[u32], target: u32) -> Row {
        let history = history.iter().copied().map(ItemIndex).collect();
        Row { id: RowId(0), user: None, history, target: ItemIndex(target), time: None }
    }

    /// The rule as said in words: repeatedly take the best of what is left, by comparing all pairs.
    fn oracle(rule: Rule, items: &[Item], rows: &[Row], history: &[ItemIndex]) -> Vec<ItemIndex> {
        let times = |rows: &[Row], target: ItemIndex| rows.iter().filter(|row| row.target == target).count();
        let newest = &rows[rows.len() - rows.len() / 10..];
        let last = *history.last().unwrap();
        let after: Vec<Row> = rows.iter().filter(|row| *row.history.last().unwrap() == last).cloned().collect();
        let first_seen = |item: ItemIndex| newest.iter().position(|row| row.target == item).map_or(0, |at| 1000 - at);
        // Larger is better, compared left to right; the id is the last word and smaller is better.
        let score = |item: ItemIndex| match rule {
            Rule::Pop => [times(rows, item), 0, 0, 0],
            Rule::RecentPop => [times(newest, item), first_seen(item), times(rows, item), 0],
            Rule::Markov => [times(&after, item), times(rows, item), 0, 0],
            Rule::MarkovRepeat => [usize::from(item == last), times(&after, item), times(rows, item), 0],
        };
        let mut left: Vec<ItemIndex> = (0..items.len() as u32).map(ItemIndex).collect();
        left.retain(|&item| times(rows, item) > 0 || (rule == Rule::MarkovRepeat && item == last));
        let mut order = Vec::new();
        while !left.is_empty() {
            let best = *left
                .iter()
                .find(|&&a| {
                    let id = |item: ItemIndex| items[item.0 as usize].id.as_str();
                    left.iter().all(|&b| a == b || score(a) > score(b) || (score(a) == score(b) && id(a) < id(b)))
                })
                .unwrap();
            left.retain(|&item| item != best);
            order.push(best);
        }
        order
    }

    proptest! {
        #[test]
        fn every_rule_ranks_as_its_definition_says(
            rows in prop::collection::vec((prop::collection::vec(0_u32..4, 1..3), 0_u32..4), 1..40),
            history in prop::collection::vec(0_u32..4, 1..3),
        ) {
            let rows: Vec<Row> = rows.iter().map(|(history, target)| row(history, *target)).collect();
            let history: Vec<ItemIndex> = history.into_iter().map(ItemIndex).collect();
            let rules = CountingRules::fit(&items(), &rows.iter().collect::<Vec<_>>());
            for rule in Rule::ALL {
                prop_assert_eq!(rules.rank(rule, &history, 20), oracle(rule, &items(), &rows, &history), "{:?}", rule);
            }
        }
    }

    #[test]
    fn ties_are_broken_by_id_as_text() {
        let rows = [row(&[0], 0), row(&[0], 1), row(&[0], 2)];
        let rules = CountingRules::fit(&items(), &rows.iter().collect::<Vec<_>>());
        assert_eq!(rules.rank(Rule::Pop, &[ItemIndex(0)], 3), [ItemIndex(1), ItemIndex(2), ItemIndex(0)]);
    }
}
