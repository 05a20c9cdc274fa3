//! What the rows of a split look like.

use crate::{
    dataset::{Dataset, Split},
    ids::ItemIndex,
};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// A distribution of whole numbers in four figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Arithmetic mean.
    pub mean: f64,
    /// The middle value, the upper one of two.
    pub median: u64,
    /// The value at 95 % of the sorted list, rounded down.
    pub p95: u64,
    /// Largest value.
    pub max: u64,
}

impl Summary {
    /// Summarises values; of no values everything is zero.
    pub fn of(values: impl IntoIterator<Item = usize>) -> Self {
        let mut values: Vec<u64> = values.into_iter().map(|value| value as u64).collect();
        values.sort_unstable();
        let Some(&max) = values.last() else { return Self::default() };
        Self {
            mean: values.iter().sum::<u64>() as f64 / values.len() as f64,
            median: values[values.len() / 2],
            p95: values[(values.len() - 1) * 95 / 100],
            max,
        }
    }
}

/// One split in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitReport {
    /// Which.
    pub split: Split,
    /// Rows.
    pub rows: u64,
    /// Distinct users, if the source names them.
    pub users: Option<u64>,
    /// Rows with a history of one item: users whose first row is in this split, if all their rows are there.
    pub starting_users: u64,
    /// Distinct targets.
    pub distinct_targets: u64,
    /// Lengths of the histories.
    pub history_length: Summary,
    /// Rows whose history has the greatest allowed length.
    pub at_cap: u64,
    /// Rows whose history occurs in this split with another target too.
    pub sharing_history: u64,
    /// Rows whose target is in their own history.
    pub target_in_history: u64,
    /// Rows whose target is the last item of their own history.
    pub target_is_last: u64,
    /// Rows whose target occurs nowhere in train, neither as target nor in a history: what is learned from rows by id cannot
    /// rank it.
    pub cold_targets: u64,
    /// Earliest and latest time of a target, in the source's unit.
    pub time: Option<(i64, i64)>,
}

impl SplitReport {
    /// Measures a split; `history_length` is the greatest allowed length of a history.
    pub fn measure(dataset: &Dataset, split: Split, history_length: usize) -> Self {
        let rows = dataset.rows(split);
        let count =
            |condition: &dyn Fn(&crate::dataset::Row) -> bool| rows.iter().filter(|row| condition(row)).count() as u64;
        let users: HashSet<_> = rows.iter().filter_map(|row| row.user.as_deref()).collect();
        let mut targets_of: HashMap<&[ItemIndex], HashSet<ItemIndex>> = HashMap::new();
        for row in rows {
            targets_of.entry(&row.history).or_default().insert(row.target);
        }
        let train = dataset.rows(Split::Train);
        let warm: HashSet<_> = train.iter().flat_map(|row| row.history.iter().chain([&row.target])).collect();
        let times = || rows.iter().filter_map(|row| row.time);
        Self {
            split,
            rows: rows.len() as u64,
            users: (!users.is_empty()).then_some(users.len() as u64),
            starting_users: count(&|row| row.history.len() == 1),
            distinct_targets: rows.iter().map(|row| row.target).collect::<HashSet<_>>().len() as u64,
            history_length: Summary::of(rows.iter().map(|row| row.history.len())),
            at_cap: count(&|row| row.history.len() == history_length),
            sharing_history: count(&|row| targets_of[row.history.as_slice()].len() > 1),
            target_in_history: count(&|row| row.history.contains(&row.target)),
            target_is_last: count(&|row| row.history.last() == Some(&row.target)),
            cold_targets: count(&|row| !warm.contains(&row.target)),
            time: times().min().zip(times().max()),
        }
    }
}
