//! Items, rows and splits: what the policy learns from, whatever format it came in.
//!
//! Readers turn a source into a [`Dataset`]: [`d3`] reads folders of the D3 family, [`interactions`] reads a log of
//! interactions with an item list, and [`split`] cuts such a log into rows. A row is known by its position in its split
//! ([`RowId`]) and never by its history: several rows share a history and differ in the target.

pub mod d3;
mod error;
pub mod interactions;
mod items;
mod python_list;
pub mod split;
mod table;

pub use error::{BadRecords, DatasetError, Dropped};
pub use table::{FileFormat, Place};

use crate::ids::{ItemIndex, RowId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Something that can be recommended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The id the source gives it.
    pub id: String,
    /// Its title; several items may have the same.
    pub title: String,
}

/// One prediction task: a history and the item that came next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Position in its split.
    pub id: RowId,
    /// The user, if the source names one.
    pub user: Option<String>,
    /// Earlier items of the user, oldest first, at least one.
    pub history: Vec<ItemIndex>,
    /// The item that came next.
    pub target: ItemIndex,
    /// When the target was chosen, in the source's unit (usually seconds).
    pub time: Option<i64>,
}

/// The three parts of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For the supervised stage.
    Train,
    /// For choosing, and by default the prompts of the reinforcement stage.
    Valid,
    /// For the final measurement only.
    Test,
}

impl Split {
    /// All splits in time order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// Its name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

/// A catalog and the rows of its splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    items: Vec<Item>,
    rows: [Vec<Row>; 3],
}

impl Dataset {
    /// Joins items and rows; the rows of each split get their ids here, by position.
    ///
    /// # Errors
    /// [`DatasetError::NoItems`], [`DatasetError::DuplicateIndexedItem`], [`DatasetError::RowOutOfRange`] and
    /// [`DatasetError::EmptyHistory`].
    pub fn new(items: Vec<Item>, train: Vec<Row>, valid: Vec<Row>, test: Vec<Row>) -> Result<Self, DatasetError> {
        if items.is_empty() {
            return Err(DatasetError::NoItems);
        }
        let mut seen = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(first) = seen.insert(item.id.as_str(), index) {
                return Err(DatasetError::DuplicateIndexedItem { id: item.id.clone(), first, second: index });
            }
        }
        let mut rows = [train, valid, test];
        for (split, rows) in Split::ALL.into_iter().zip(&mut rows) {
            for (position, row) in rows.iter_mut().enumerate() {
                row.id = RowId(position as u32);
                if row.history.is_empty() {
                    return Err(DatasetError::EmptyHistory { split: split.name(), row: position });
                }
                if let Some(item) = row.history.iter().chain([&row.target]).find(|item| item.0 as usize >= items.len())
                {
                    let (item, num_items) = (item.0, items.len());
                    return Err(DatasetError::RowOutOfRange { split: split.name(), row: position, item, num_items });
                }
            }
        }
        Ok(Self { items, rows })
    }

    /// The catalog; positions are [`ItemIndex`]es.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// One item.
    ///
    /// # Panics
    /// If the index is not of this dataset.
    pub fn item(&self, index: ItemIndex) -> &Item {
        &self.items[index.0 as usize]
    }

    /// The rows of a split; positions are [`RowId`]s.
    pub fn rows(&self, split: Split) -> &[Row] {
        &self.rows[split as usize]
    }

    /// The titles of a row's history, oldest first.
    pub fn history_titles(&self, row: &Row) -> Vec<&str> {
        row.history.iter().map(|&item| self.item(item).title.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str) -> Item {
        Item { id: id.to_owned(), title: format!("title of {id}") }
    }

    fn row(history: &[u32], target: u32) -> Row {
        let history = history.iter().copied().map(ItemIndex).collect();
        Row { id: RowId(9), user: None, history, target: ItemIndex(target), time: None }
    }

    #[test]
    fn rows_that_share_a_history_stay_different_rows() {
        let rows = vec![row(&[0], 1), row(&[0], 0)];
        let dataset = Dataset::new(vec![item("a"), item("b")], rows, vec![], vec![]).unwrap();
        let ids: Vec<_> = dataset.rows(Split::Train).iter().map(|row| (row.id, row.target)).collect();
        assert_eq!(ids, [(RowId(0), ItemIndex(1)), (RowId(1), ItemIndex(0))]);
    }

    #[test]
    fn a_dataset_refuses_what_it_cannot_mean() {
        let items = || vec![item("a"), item("b")];
        let refuse = |items, rows| Dataset::new(items, vec![], rows, vec![]).unwrap_err().to_string();
        assert_eq!(refuse(vec![], vec![]), "the item list is empty");
        assert_eq!(refuse(vec![item("a"), item("a")], vec![]), "items 0 and 1 have the same id `a`");
        assert_eq!(refuse(items(), vec![row(&[], 1)]), "row 0 of the valid split has no history");
        assert_eq!(
            refuse(items(), vec![row(&[0], 1), row(&[2], 1)]),
            "row 1 of the valid split names item 2 of a catalog of 2 items"
        );
    }
}
