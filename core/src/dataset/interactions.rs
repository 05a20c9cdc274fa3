//! A log of interactions and a list of items, in files with named columns.

use super::{
    BadRecords, DatasetError, Dropped, Item,
    items::{ItemList, keep_or_drop, parse_time},
    split::SplitOptions,
    table::{self, Column, FileFormat, Record},
};
use crate::ids::ItemIndex;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, path::PathBuf};

/// The two files and their columns. The format follows the file's ending (.csv, .tsv, .jsonl, each also with .gz) unless it
/// is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InteractionOptions {
    /// The log: one line per interaction.
    pub interactions: PathBuf,
    /// The item list: one line per item.
    pub items: PathBuf,
    /// Format of both files, if their endings do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// Column of the log with the user.
    #[serde(default = "default_user")]
    pub user_column: String,
    /// Column of the log with the item's id.
    #[serde(default = "default_item")]
    pub item_column: String,
    /// Column of the log with the time, a number; without it the order of the lines is the order in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_column: Option<String>,
    /// Column of the log with the rating; only read to apply `min_rating`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating_column: Option<String>,
    /// Interactions with a lower rating are not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rating: Option<f64>,
    /// Column of the item list with the id.
    #[serde(default = "default_id")]
    pub item_id_column: String,
    /// Column of the item list with the title.
    #[serde(default = "default_title")]
    pub title_column: String,
    /// How the interactions become rows.
    #[serde(default)]
    pub split: SplitOptions,
}

fn default_user() -> String {
    "user".to_owned()
}

fn default_item() -> String {
    "item".to_owned()
}

fn default_id() -> String {
    "id".to_owned()
}

fn default_title() -> String {
    "title".to_owned()
}

/// One thing a user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interaction {
    /// Position in [`Log::users`].
    pub user: u32,
    /// The item.
    pub item: ItemIndex,
    /// When, if the source says.
    pub time: Option<i64>,
}

/// Interactions in file order with what they refer to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// The item list.
    pub items: Vec<Item>,
    /// Users in order of appearance.
    pub users: Vec<String>,
    /// Interactions in file order.
    pub interactions: Vec<Interaction>,
    /// Records left out.
    pub dropped: Dropped,
}

/// Reads both files.
///
/// # Errors
/// [`DatasetError`] with file, line, column and value.
pub fn read(options: &InteractionOptions, bad: BadRecords) -> Result<Log, DatasetError> {
    let list = read_items(options, bad)?;
    let time_column = options.time_column.as_deref();
    let mut columns = vec![Column::required(&options.user_column), Column::required(&options.item_column)];
    let time_at = time_column.map(|name| push_column(&mut columns, name));
    // A rating without a threshold decides nothing, so it is not read.
    let min_rating = options.min_rating.unwrap_or(f64::NEG_INFINITY);
    let rating_at = options.rating_column.as_deref().filter(|_| options.min_rating.is_some());
    let rating_at = rating_at.map(|name| push_column(&mut columns, name));

    let mut log = Log { dropped: Dropped { items: list.dropped, records: 0 }, ..Log::default() };
    let mut users: HashMap<String, u32> = HashMap::new();
    let parse = |record: &Record| -> Result<Option<(String, ItemIndex, Option<i64>)>, DatasetError> {
        let value = |at: usize, expected| DatasetError::Value {
            place: record.place.clone(),
            column: columns[at].name.to_owned(),
            value: record.required(at).to_owned(),
            expected,
        };
        if let Some(at) = rating_at {
            let rating: f64 = record.required(at).trim().parse().map_err(|_| value(at, "a number"))?;
            if rating.is_nan() || rating < min_rating {
                return Ok(None);
            }
        }
        let user = record.required(0).trim();
        if user.is_empty() {
            return Err(value(0, "a user"));
        }
        let item = list.find(&record.place, columns[1].name, record.required(1))?;
        let time = time_at.map(|at| parse_time(&record.place, columns[at].name, record.required(at))).transpose()?;
        Ok(Some((user.to_owned(), item, time)))
    };
    let format = options.format.map_or_else(|| FileFormat::of(&options.interactions), Ok)?;
    table::read(&options.interactions, format, &columns, |record| {
        if let Some(Some((user, item, time))) = keep_or_drop(parse(&record), bad, &mut log.dropped)? {
            let next = users.len() as u32;
            let user = *users.entry(user).or_insert_with_key(|name| {
                log.users.push(name.clone());
                next
            });
            log.interactions.push(Interaction { user, item, time });
        }
        Ok(())
    })?;
    log.items = list.items;
    Ok(log)
}

fn push_column<'a>(columns: &mut Vec<Column<'a>>, name: &'a str) -> usize {
    columns.push(Column::required(name));
    columns.len() - 1
}

fn read_items(options: &InteractionOptions, bad: BadRecords) -> Result<ItemList, DatasetError> {
    let mut list = ItemList::new(&options.items, bad);
    let format = options.format.map_or_else(|| FileFormat::of(&options.items), Ok)?;
    let columns = [Column::required(&options.item_id_column), Column::required(&options.title_column)];
    table::read(&options.items, format, &columns, |record| {
        let (id, title) = (record.required(0).to_owned(), record.required(1).to_owned());
        list.push(record.place, &id, &title)
    })?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: &str = "id,title\na,Alpha\nb,Beta\n";

    fn read_text(log: &str, items: &str, more: &str, bad: BadRecords) -> Result<Log, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log.csv"), log).unwrap();
        std::fs::write(folder.path().join("items.csv"), items).unwrap();
        let mut options: InteractionOptions =
            toml::from_str(&format!("interactions = 'log.csv'\nitems = 'items.csv'\n{more}")).unwrap();
        options.interactions = folder.path().join("log.csv");
        options.items = folder.path().join("items.csv");
        read(&options, bad)
    }

    #[test]
    fn named_columns_are_found_wherever_they_stand() {
        let log = "when,stars,who,what\n5,4.5,u,b\n3.9,1,v,a\n";
        let more =
            "user_column = 'who'\nitem_column = 'what'\ntime_column = 'when'\nrating_column = 'stars'\nmin_rating = 2";
        let log = read_text(log, ITEMS, more, BadRecords::Error).unwrap();
        assert_eq!(log.users, ["u"]);
        assert_eq!(log.interactions, [Interaction { user: 0, item: ItemIndex(1), time: Some(5) }]);
    }

    #[test]
    fn mistakes_are_errors_or_counted_drops() {
        let items = "id,title\na,Alpha\na,Again\nc, \n";
        let error = read_text("user,item\nu,a\n", items, "", BadRecords::Error).unwrap_err().to_string();
        assert!(error.ends_with("items.csv:3: item id `a` was given before, on line 2"), "{error}");
        let log = read_text("user,item\nu,a\nu,zz\n,a\n", items, "", BadRecords::Drop).unwrap();
        assert_eq!(log.dropped, Dropped { items: 2, records: 2 });
        assert_eq!((log.items.len(), log.interactions.len()), (1, 1));
        let error = read_text("user,item\nu,zz\n", ITEMS, "", BadRecords::Error).unwrap_err().to_string();
        assert!(error.contains("log.csv:2: column `item` names item `zz`"), "{error}");
        let error = read_text("user,item,t\nu,a,noon\n", ITEMS, "time_column = 't'", BadRecords::Error).unwrap_err();
        assert!(error.to_string().ends_with("column `t` holds `noon`, expected a number"), "{error}");
    }

    #[test]
    fn an_unknown_option_is_refused() {
        assert!(toml::from_str::<InteractionOptions>("interactions = 'a'\nitems = 'b'\nusr = 'c'").is_err());
    }
}
