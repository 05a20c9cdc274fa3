//! Folders of the D3, ReRe and MiniOneRec family: rows that are already cut and split.
//!
//! ```text
//! info/*.txt                                  title TAB id, one item a line (MiniOneRec: codes TAB title TAB id)
//! train/ valid/ test/   one *.csv or *.csv.gz each; also looked for in derived/train/ and so on
//! ```
//!
//! Read are `history_item_id` and `item_id`, and if they are there `user_id`, `timestamp` and `item_title`; the last only to
//! notice an item list that numbers the items differently.

use super::{
    BadRecords, Dataset, DatasetError, Dropped, Item, Row,
    items::{ItemList, keep_or_drop, parse_time},
    python_list,
    table::{self, Column, FileFormat, Record},
};
use crate::ids::RowId;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A folder of the family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct D3Options {
    /// The folder that holds `info`, `valid`, `test` and `train` or `derived/train`.
    pub path: PathBuf,
}

const HISTORY: usize = 0;
const TARGET: usize = 1;
const USER: usize = 2;
const TIME: usize = 3;
const TITLE: usize = 4;
const COLUMNS: [&str; 5] = ["history_item_id", "item_id", "user_id", "timestamp", "item_title"];

/// The files of a folder, in the order they are read: item list, then train, valid and test rows.
///
/// # Errors
/// [`DatasetError::Missing`], [`DatasetError::Ambiguous`] and [`DatasetError::Io`].
pub fn files(folder: &Path) -> Result<[PathBuf; 4], DatasetError> {
    let tables = [".csv", ".csv.gz"];
    Ok([
        one_file(folder, "item list", &["info"], &[".txt"])?,
        one_file(folder, "train rows", &["train", "derived/train", "derived"], &tables)?,
        one_file(folder, "valid rows", &["valid", "derived/valid"], &tables)?,
        one_file(folder, "test rows", &["test", "derived/test"], &tables)?,
    ])
}

/// Reads a folder; histories keep their newest `history_length` items.
///
/// # Errors
/// [`DatasetError`] with file, line and value.
pub fn read(folder: &Path, history_length: usize, bad: BadRecords) -> Result<(Dataset, Dropped), DatasetError> {
    let [info, train, valid, test] = files(folder)?;
    let list = read_items(&info, bad)?;
    let mut dropped = Dropped { items: list.dropped, records: 0 };
    let mut rows = |path: &Path| read_rows(path, &list, history_length, bad, &mut dropped);
    let (train, valid, test) = (rows(&train)?, rows(&valid)?, rows(&test)?);
    Ok((Dataset::new(list.items, train, valid, test)?, dropped))
}

/// The only file with one of the endings in the first of the places that exists.
fn one_file(folder: &Path, what: &'static str, places: &[&str], endings: &[&str]) -> Result<PathBuf, DatasetError> {
    for place in places {
        let directory = folder.join(place);
        if !directory.is_dir() {
            continue;
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(|source| table::io(&directory, source))? {
            let path = entry.map_err(|source| table::io(&directory, source))?.path();
            if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                found.push(path);
            }
        }
        found.sort();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one.clone()),
            several => {
                let names = several.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
                return Err(DatasetError::Ambiguous {
                    folder: directory.display().to_string(),
                    count: several.len(),
                    names: names.collect::<Vec<_>>().join(", "),
                });
            }
        }
    }
    let patterns = places.iter().flat_map(|place| endings.iter().map(move |ending| format!("{place}/*{ending}")));
    let looked_for = patterns.collect::<Vec<_>>().join(", ");
    Err(DatasetError::Missing { folder: folder.display().to_string(), what, looked_for })
}

fn read_items(path: &Path, bad: BadRecords) -> Result<ItemList, DatasetError> {
    let mut list = ItemList::new(path, bad);
    table::lines(path, |place, line| {
        let line = line.trim_end_matches('\r');
        // Titles may hold tabs, ids do not: split at the last one.
        match line.rsplit_once('\t') {
            Some((title, id)) => list.push(place, id, without_codes(title)),
            None if line.is_empty() => Ok(()),
            None => Err(DatasetError::Syntax { place, reason: "expected `title TAB id`".to_owned() }),
        }
    })?;
    Ok(list)
}

/// Drops the semantic codes that MiniOneRec writes before the title: `<a_1><b_2><c_3> TAB title`.
fn without_codes(title: &str) -> &str {
    let is_code = |code: &str| {
        code.split_once('_').is_some_and(|(level, index)| {
            level.chars().all(|c| c.is_ascii_lowercase())
                && !index.is_empty()
                && index.chars().all(|c| c.is_ascii_digit())
        })
    };
    let are_codes = |text: &str| {
        let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
        inner.is_some_and(|inner| inner.split("><").all(is_code))
    };
    match title.split_once('\t') {
        Some((codes, rest)) if are_codes(codes) => rest,
        _ => title,
    }
}

fn read_rows(
    path: &Path,
    list: &ItemList,
    history_length: usize,
    bad: BadRecords,
    dropped: &mut Dropped,
) -> Result<Vec<Row>, DatasetError> {
    let columns: Vec<_> = COLUMNS.iter().enumerate().map(|(i, name)| Column { name, required: i <= TARGET }).collect();
    let mut rows = Vec::new();
    table::read(path, FileFormat::Csv, &columns, |record| {
        rows.extend(keep_or_drop(read_row(&record, list, history_length), bad, dropped)?);
        Ok(())
    })?;
    Ok(rows)
}

fn read_row(record: &Record, list: &ItemList, history_length: usize) -> Result<Row, DatasetError> {
    let value = |column: usize, expected| DatasetError::Value {
        place: record.place.clone(),
        column: COLUMNS[column].to_owned(),
        value: record.required(column).to_owned(),
        expected,
    };
    let ids = python_list::parse(record.required(HISTORY)).map_err(|reason| DatasetError::Syntax {
        place: record.place.clone(),
        reason: format!("column `{}`: {reason}", COLUMNS[HISTORY]),
    })?;
    if ids.is_empty() {
        return Err(value(HISTORY, "at least one id"));
    }
    let recent = &ids[ids.len().saturating_sub(history_length)..];
    let history = recent.iter().map(|id| list.find(&record.place, COLUMNS[HISTORY], id)).collect::<Result<_, _>>()?;
    let target = list.find(&record.place, COLUMNS[TARGET], record.required(TARGET))?;
    let Item { id, title: listed } = &list.items[target.0 as usize];
    if let Some(title) = record.values[TITLE].as_deref().filter(|title| title.trim() != listed) {
        let (place, id, title, listed) = (record.place.clone(), id.clone(), title.to_owned(), listed.clone());
        return Err(DatasetError::OtherTitle { place, id, title, listed });
    }
    let time = record.values[TIME].as_deref().map(|time| parse_time(&record.place, COLUMNS[TIME], time)).transpose()?;
    Ok(Row { id: RowId(0), user: record.values[USER].clone(), history, target, time })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dataset::Split, ids::ItemIndex};

    const INFO: &str = "One\tDay\t7\nTwo \"and\" a half\t8\r\nThree\t9\n";
    const HEADER: &str = "user_id,history_item_id,item_id,history_item_title,item_title,timestamp\r\n";

    fn folder(info: &str, train: &str, valid: &str, test: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let parts =
            [("info/x.txt", info), ("derived/train/x.csv", train), ("valid/x.csv", valid), ("test/x.csv", test)];
        for (name, content) in parts {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    fn with_test_row(row: &str) -> tempfile::TempDir {
        folder(INFO, "history_item_id,item_id\n[7],8\n", "history_item_id,item_id\n", &format!("{HEADER}{row}\r\n"))
    }

    fn error_of(row: &str) -> String {
        read(with_test_row(row).path(), 10, BadRecords::Error).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_with_and_without_users_and_times_is_read() {
        let folder = with_test_row("A1,\"[7, 9, 8]\",8,\"['x']\",\"Two \"\"and\"\" a half\",1495843200");
        let (dataset, dropped) = read(folder.path(), 2, BadRecords::Error).unwrap();
        assert_eq!(dropped, Dropped::default());
        assert_eq!(dataset.items()[0], Item { id: "7".to_owned(), title: "One\tDay".to_owned() });
        let row = &dataset.rows(Split::Test)[0];
        assert_eq!((row.user.as_deref(), row.time), (Some("A1"), Some(1_495_843_200)));
        assert_eq!(row.history, [ItemIndex(2), ItemIndex(1)]);
        let row = &dataset.rows(Split::Train)[0];
        assert_eq!((row.user.as_deref(), row.time, row.target), (None, None, ItemIndex(1)));
    }

    #[test]
    fn mistakes_name_file_line_column_and_value() {
        let error = error_of("A1,[7],5,x,Two,1");
        assert!(error.contains("x.csv:2: column `item_id` names item `5`, which is not in the item list"), "{error}");
        let error = error_of("A1,[7],9,x,Four,1");
        assert!(error.ends_with("x.csv:2: item `9` is called `Four` here and `Three` in the item list"), "{error}");
        let error = error_of("A1,[7],9,x,Three,soon");
        assert!(error.ends_with("column `timestamp` holds `soon`, expected a number"), "{error}");
        let error = error_of("A1,[7,9,x,Three,1");
        assert!(error.contains("x.csv:2"), "{error}");
        let error = error_of("A1,[],9,x,Three,1");
        assert!(error.ends_with("column `history_item_id` holds `[]`, expected at least one id"), "{error}");
    }

    #[test]
    fn bad_records_are_dropped_and_counted_on_request() {
        let folder = with_test_row("A1,[7],5,x,Two,1\r\nA1,[7],9,x,Three,1");
        let (dataset, dropped) = read(folder.path(), 10, BadRecords::Drop).unwrap();
        assert_eq!((dataset.rows(Split::Test).len(), dropped.records), (1, 1));
    }

    #[test]
    fn a_folder_without_train_rows_says_where_they_were_looked_for() {
        let folder = with_test_row("");
        std::fs::remove_dir_all(folder.path().join("derived")).unwrap();
        let error = read(folder.path(), 10, BadRecords::Error).unwrap_err().to_string();
        assert!(error.ends_with("has no train rows: looked for train/*.csv, train/*.csv.gz, derived/train/*.csv, derived/train/*.csv.gz, derived/*.csv, derived/*.csv.gz"), "{error}");
    }

    #[test]
    fn semantic_codes_before_a_title_are_not_part_of_it() {
        assert_eq!(without_codes("<a_236><b_231><c_226>\tRelay <b_1>"), "Relay <b_1>");
        assert_eq!(without_codes("<a_236>Relay\tx"), "<a_236>Relay\tx");
        assert_eq!(without_codes("One\tDay"), "One\tDay");
    }
}
