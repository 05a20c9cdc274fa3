//! What can be wrong with a source of interactions, and what to do about it.

use super::table::Place;
use serde::{Deserialize, Serialize};

/// What happens to a record that cannot be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadRecords {
    /// The first one ends the preparation with an error.
    #[default]
    Error,
    /// It is left out and counted in the report.
    Drop,
}

/// Records that were left out under [`BadRecords::Drop`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Lines of the item list: without title, or with an id that occurred before.
    pub items: u64,
    /// Rows or interactions: unreadable values or unknown items.
    pub records: u64,
}

/// Why a source is not a dataset.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file or folder cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A folder of the D3 family lacks a part.
    #[error("`{folder}` has no {what}: looked for {looked_for}")]
    Missing {
        /// The folder.
        folder: String,
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        looked_for: String,
    },
    /// A folder holds several files where one is expected.
    #[error("`{folder}` holds {count} files where one is expected: {names}")]
    Ambiguous {
        /// The folder.
        folder: String,
        /// How many.
        count: usize,
        /// Their names.
        names: String,
    },
    /// The format cannot be told from the name.
    #[error(
        "cannot tell the format of `{path}` from its name: known endings are .csv, .tsv, .jsonl, each also with .gz"
    )]
    UnknownFormat {
        /// The file.
        path: String,
    },
    /// A line that is not a record of the format.
    #[error("{place}: {reason}")]
    Syntax {
        /// File and line.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// A named column does not exist.
    #[error("`{path}` has no column `{column}`; its columns are {columns}")]
    NoColumn {
        /// The file.
        path: String,
        /// The column asked for.
        column: String,
        /// The columns there are.
        columns: String,
    },
    /// A value that cannot be read.
    #[error("{place}: column `{column}` holds `{value}`, expected {expected}")]
    Value {
        /// File and line.
        place: Place,
        /// The column.
        column: String,
        /// Its value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// An interaction or row with an item that is not in the item list.
    #[error("{place}: column `{column}` names item `{id}`, which is not in the item list `{list}`")]
    UnknownItem {
        /// File and line.
        place: Place,
        /// The column.
        column: String,
        /// The id.
        id: String,
        /// The item list.
        list: String,
    },
    /// A row whose title is not that of the item it names: the item list belongs to other rows.
    #[error("{place}: item `{id}` is called `{title}` here and `{listed}` in the item list")]
    OtherTitle {
        /// File and line.
        place: Place,
        /// The id.
        id: String,
        /// Its title in the row.
        title: String,
        /// Its title in the list.
        listed: String,
    },
    /// An item without a title.
    #[error("{place}: item `{id}` has no title")]
    EmptyTitle {
        /// File and line.
        place: Place,
        /// The id.
        id: String,
    },
    /// Two lines of the item list with one id.
    #[error("{place}: item id `{id}` was given before, on line {first}")]
    DuplicateItem {
        /// File and line.
        place: Place,
        /// The id.
        id: String,
        /// Line of its first occurrence.
        first: u64,
    },
    /// Nothing to recommend.
    #[error("the item list is empty")]
    NoItems,
    /// Two items of a dataset with one id.
    #[error("items {first} and {second} have the same id `{id}`")]
    DuplicateIndexedItem {
        /// The id.
        id: String,
        /// Position of its first occurrence.
        first: usize,
        /// Position of its second occurrence.
        second: usize,
    },
    /// A row without a history.
    #[error("row {row} of the {split} split has no history")]
    EmptyHistory {
        /// Name of the split.
        split: &'static str,
        /// Position in the split.
        row: usize,
    },
    /// A row with an item that does not exist.
    #[error("row {row} of the {split} split names item {item} of a catalog of {num_items} items")]
    RowOutOfRange {
        /// Name of the split.
        split: &'static str,
        /// Position in the split.
        row: usize,
        /// The item index.
        item: u32,
        /// Size of the catalog.
        num_items: usize,
    },
    /// Splits by time need times.
    #[error("splitting by time needs a time column, but none is named")]
    NoTime,
    /// The filters left nothing.
    #[error("no rows are left: {interactions} interactions were read, {kept} passed the filters")]
    NothingLeft {
        /// Interactions read.
        interactions: usize,
        /// Interactions after the filters.
        kept: usize,
    },
    /// Shares that are not shares.
    #[error(
        "`{name}` is {value}: train_share and valid_share must be between 0 and 1 and leave something for the test split"
    )]
    Share {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A setting outside its range.
    #[error("`{name}` must be at least {minimum}, got {value}")]
    TooSmall {
        /// The setting.
        name: &'static str,
        /// Its smallest value.
        minimum: u64,
        /// Its value.
        value: u64,
    },
}

impl DatasetError {
    /// Whether it concerns one record only, so that [`BadRecords::Drop`] may leave that record out.
    pub fn is_about_one_record(&self) -> bool {
        matches!(
            self,
            Self::Syntax { .. }
                | Self::Value { .. }
                | Self::UnknownItem { .. }
                | Self::OtherTitle { .. }
                | Self::EmptyTitle { .. }
                | Self::DuplicateItem { .. }
        )
    }

    /// What the user can do about it, if there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoColumn { .. } => {
                "name the columns of your file in the options, for example `user_column = \"user_id\"`"
            }
            Self::OtherTitle { .. } => "the item list and the rows number items differently: use files of one release",
            Self::UnknownItem { .. } | Self::EmptyTitle { .. } | Self::DuplicateItem { .. } | Self::Value { .. } => {
                "correct the line, or set `bad_records = \"drop\"` to leave such records out and count them"
            }
            Self::NoTime => "set `time_column`, or `split = \"leave_one_out\"`, which takes file order as time order",
            Self::NothingLeft { .. } => "lower `min_interactions`, or check that user ids repeat in the log",
            Self::UnknownFormat { .. } => "set `format` in the options",
            _ => return None,
        })
    }
}
