//! From a log of interactions to rows: filters, histories and splits.

use super::{
    Dataset, DatasetError, Row,
    interactions::{Interaction, Log},
};
use crate::ids::{ItemIndex, RowId};
use serde::{Deserialize, Serialize};

/// What a user's second interaction with an item counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeats {
    /// Like any other.
    #[default]
    Keep,
    /// Nothing: only the first one of each user and item is kept.
    First,
}

/// Where the splits are cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitRule {
    /// All rows of all users sorted by the time of their target and cut by shares: nothing of the future is learned from.
    #[default]
    Time,
    /// The last interaction of each user is the test row, the last but one the valid row, the rest trains. A user with fewer
    /// than three interactions only trains.
    LeaveOneOut,
}

/// How a log becomes rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitOptions {
    /// Users and items with fewer interactions are removed, again and again until none is left to remove (k-core). With 0 the
    /// catalog has the items that nobody has chosen yet as well.
    pub min_interactions: usize,
    /// Repeated interactions of one user with one item.
    pub repeats: Repeats,
    /// Where the splits are cut.
    pub rule: SplitRule,
    /// Share of the rows that train, for [`SplitRule::Time`].
    pub train_share: f64,
    /// Share of the rows that validate, for [`SplitRule::Time`]; the rest tests.
    pub valid_share: f64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { min_interactions: 1, repeats: Repeats::Keep, rule: SplitRule::Time, train_share: 0.8, valid_share: 0.1 }
    }
}

impl SplitOptions {
    /// Checks the shares.
    ///
    /// # Errors
    /// [`DatasetError::Share`].
    pub fn check(&self) -> Result<(), DatasetError> {
        let is_share = |value: f64| (0.0..1.0).contains(&value);
        for (name, value) in [("train_share", self.train_share), ("valid_share", self.valid_share)] {
            if !is_share(value) {
                return Err(DatasetError::Share { name, value });
            }
        }
        match self.train_share + self.valid_share {
            sum if sum < 1.0 => Ok(()),
            value => Err(DatasetError::Share { name: "train_share + valid_share", value }),
        }
    }
}

/// Cuts a log into rows: one per interaction from each user's second one on, with at most `history_length` earlier items.
///
/// Interactions are ordered by time; those of one time keep file order. The catalog is every item with an interaction left,
/// or every item if none is asked for, in the order of the item list.
///
/// # Errors
/// [`DatasetError::Share`], [`DatasetError::NoTime`], [`DatasetError::NothingLeft`].
pub fn split(log: Log, options: &SplitOptions, history_length: usize) -> Result<Dataset, DatasetError> {
    options.check()?;
    if options.rule == SplitRule::Time && log.interactions.iter().any(|interaction| interaction.time.is_none()) {
        return Err(DatasetError::NoTime);
    }
    let Log { items, users, mut interactions, .. } = log;
    let num_read = interactions.len();
    interactions.sort_by_key(|interaction| interaction.time);
    if options.repeats == Repeats::First {
        let mut seen = std::collections::HashSet::new();
        interactions.retain(|interaction| seen.insert((interaction.user, interaction.item)));
    }
    k_core(&mut interactions, users.len(), items.len(), options.min_interactions);

    let mut is_left = vec![options.min_interactions == 0; items.len()];
    interactions.iter().for_each(|interaction| is_left[interaction.item.0 as usize] = true);
    let mut new_index = vec![ItemIndex(u32::MAX); items.len()];
    let mut catalog = Vec::new();
    for (index, item) in items.into_iter().enumerate().filter(|(index, _)| is_left[*index]) {
        new_index[index] = ItemIndex(catalog.len() as u32);
        catalog.push(item);
    }
    interactions.iter_mut().for_each(|interaction| interaction.item = new_index[interaction.item.0 as usize]);

    let rows = cut_rows(&interactions, &users, history_length);
    if rows.is_empty() {
        return Err(DatasetError::NothingLeft { interactions: num_read, kept: interactions.len() });
    }
    let [train, valid, test] = match options.rule {
        SplitRule::Time => by_time(rows, options),
        SplitRule::LeaveOneOut => leave_one_out(rows),
    };
    Dataset::new(catalog, train, valid, test)
}

/// Removes users and items with fewer than `min` interactions until all that are left have enough.
fn k_core(interactions: &mut Vec<Interaction>, num_users: usize, num_items: usize, min: usize) {
    loop {
        let mut of_user = vec![0; num_users];
        let mut of_item = vec![0; num_items];
        for interaction in interactions.iter() {
            of_user[interaction.user as usize] += 1;
            of_item[interaction.item.0 as usize] += 1;
        }
        let before = interactions.len();
        interactions.retain(|i| of_user[i.user as usize] >= min && of_item[i.item.0 as usize] >= min);
        if interactions.len() == before {
            return;
        }
    }
}

/// A row with its place in its user's sequence: how many interactions follow it, and how many there are.
struct Cut {
    row: Row,
    following: usize,
    of: usize,
}

/// One row per interaction from each user's second one on, in the order of the interactions.
fn cut_rows(interactions: &[Interaction], users: &[String], history_length: usize) -> Vec<Cut> {
    let mut sequences: Vec<Vec<ItemIndex>> = vec![Vec::new(); users.len()];
    for interaction in interactions {
        sequences[interaction.user as usize].push(interaction.item);
    }
    let mut position = vec![0_usize; users.len()];
    let mut rows = Vec::new();
    for interaction in interactions {
        let user = interaction.user as usize;
        let (sequence, at) = (&sequences[user], position[user]);
        position[user] += 1;
        if at > 0 {
            let history = sequence[at.saturating_sub(history_length)..at].to_vec();
            let (name, target, time) = (Some(users[user].clone()), interaction.item, interaction.time);
            let row = Row { id: RowId(0), user: name, history, target, time };
            rows.push(Cut { row, following: sequence.len() - 1 - at, of: sequence.len() });
        }
    }
    rows
}

fn by_time(rows: Vec<Cut>, options: &SplitOptions) -> [Vec<Row>; 3] {
    let num = rows.len() as f64;
    // A part in 10^9 keeps 0.8 + 0.1 of a round number from losing a row to rounding.
    let cut = |share: f64| (num * share * (1.0 + 1e-9)).floor() as usize;
    let (first, second) = (cut(options.train_share), cut(options.train_share + options.valid_share));
    let mut rows = rows.into_iter().map(|cut| cut.row);
    let train = rows.by_ref().take(first).collect();
    let valid = rows.by_ref().take(second - first).collect();
    [train, valid, rows.collect()]
}

fn leave_one_out(rows: Vec<Cut>) -> [Vec<Row>; 3] {
    let mut splits = [Vec::new(), Vec::new(), Vec::new()];
    for Cut { row, following, of } in rows {
        let split = match following {
            0 if of >= 3 => 2,
            1 if of >= 3 => 1,
            _ => 0,
        };
        splits[split].push(row);
    }
    splits
}

#[cfg(test)]
mod tests;
