//! Item lists under construction: ids in order of appearance, each once.

use super::{BadRecords, DatasetError, Dropped, Item, table::Place};
use crate::ids::ItemIndex;
use std::collections::HashMap;

/// An item list that is being read.
pub(super) struct ItemList {
    pub(super) items: Vec<Item>,
    pub(super) dropped: u64,
    index: HashMap<String, (ItemIndex, u64)>,
    bad: BadRecords,
    path: String,
}

impl ItemList {
    pub(super) fn new(path: &std::path::Path, bad: BadRecords) -> Self {
        Self { items: Vec::new(), dropped: 0, index: HashMap::new(), bad, path: path.display().to_string() }
    }

    /// Adds an item, or counts it as dropped if the settings say so.
    pub(super) fn push(&mut self, place: Place, id: &str, title: &str) -> Result<(), DatasetError> {
        let (id, title) = (id.trim().to_owned(), title.trim().to_owned());
        if let Some(&(_, first)) = self.index.get(&id) {
            return self.refuse(DatasetError::DuplicateItem { place, id, first });
        }
        if id.is_empty() {
            let (column, value) = ("item id".to_owned(), id);
            return self.refuse(DatasetError::Value { place, column, value, expected: "an item id" });
        }
        if title.is_empty() {
            return self.refuse(DatasetError::EmptyTitle { place, id });
        }
        self.index.insert(id.clone(), (ItemIndex(self.items.len() as u32), place.line));
        self.items.push(Item { id, title });
        Ok(())
    }

    fn refuse(&mut self, error: DatasetError) -> Result<(), DatasetError> {
        match self.bad {
            BadRecords::Error => Err(error),
            BadRecords::Drop => {
                self.dropped += 1;
                Ok(())
            }
        }
    }

    /// The item of that id.
    pub(super) fn find(&self, place: &Place, column: &str, id: &str) -> Result<ItemIndex, DatasetError> {
        let found = self.index.get(id.trim()).map(|&(index, _)| index);
        found.ok_or_else(|| DatasetError::UnknownItem {
            place: place.clone(),
            column: column.to_owned(),
            id: id.to_owned(),
            list: self.path.clone(),
        })
    }
}

/// Takes a record, or counts it as dropped if the settings say so.
pub(super) fn keep_or_drop<T>(
    record: Result<T, DatasetError>,
    bad: BadRecords,
    dropped: &mut Dropped,
) -> Result<Option<T>, DatasetError> {
    match record {
        Ok(record) => Ok(Some(record)),
        Err(error) if bad == BadRecords::Drop && error.is_about_one_record() => {
            dropped.records += 1;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads a time: a whole number, or a decimal number whose fraction is cut off.
pub(super) fn parse_time(place: &Place, column: &str, text: &str) -> Result<i64, DatasetError> {
    let text = text.trim();
    let decimal = || text.parse::<f64>().ok().filter(|time| time.is_finite()).map(|time| time.floor() as i64);
    text.parse().ok().or_else(decimal).ok_or_else(|| DatasetError::Value {
        place: place.clone(),
        column: column.to_owned(),
        value: text.to_owned(),
        expected: "a number",
    })
}
