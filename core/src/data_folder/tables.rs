//! The Parquet tables of a data folder: written as bytes, read from files.

use super::{DataFolderError, PromptRow};
use crate::{
    dataset::{Dataset, Item, Row, Split},
    ids::{ItemIndex, RowId},
};
use arrow_array::{
    Array, ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, UInt32Array,
    builder::{ListBuilder, UInt32Builder},
    cast::AsArray,
    types::UInt32Type,
};
use arrow_schema::{ArrowError, DataType, Field};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    errors::ParquetError,
    file::properties::WriterProperties,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

/// The bytes of a table, or why they could not be made.
pub type Encoded = Result<Vec<u8>, ParquetError>;

/// The items, each with its spelling.
///
/// # Errors
/// Those of the Parquet library.
pub fn write_items(items: &[Item], tokens: &[Vec<u32>]) -> Encoded {
    encode(vec![
        ("index", Arc::new(UInt32Array::from_iter_values(0..items.len() as u32)) as ArrayRef, false),
        ("id", Arc::new(StringArray::from_iter_values(items.iter().map(|item| &item.id))), false),
        ("title", Arc::new(StringArray::from_iter_values(items.iter().map(|item| &item.title))), false),
        ("tokens", Arc::new(lists(tokens.iter().map(|tokens| tokens.iter().copied()))), false),
    ])
}

/// The rows of a split.
///
/// # Errors
/// Those of the Parquet library.
pub fn write_rows(rows: &[Row]) -> Encoded {
    encode(vec![
        ("row", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.id.0))) as ArrayRef, false),
        ("user", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.user.as_deref()))), true),
        ("history", Arc::new(lists(rows.iter().map(|row| row.history.iter().map(|item| item.0)))), false),
        ("target", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.target.0))), false),
        ("time", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.time))), true),
    ])
}

/// The prompts, as rows of splits.
///
/// # Errors
/// Those of the Parquet library.
pub fn write_prompts(prompts: &[PromptRow]) -> Encoded {
    encode(vec![
        (
            "split",
            Arc::new(StringArray::from_iter_values(prompts.iter().map(|(split, _)| split.name()))) as ArrayRef,
            false,
        ),
        ("row", Arc::new(UInt32Array::from_iter_values(prompts.iter().map(|(_, row)| row.0))), false),
    ])
}

fn lists(values: impl Iterator<Item = impl Iterator<Item = u32>>) -> ListArray {
    let field = Field::new_list_field(DataType::UInt32, false);
    let mut builder = ListBuilder::new(UInt32Builder::new()).with_field(field);
    values.for_each(|list| builder.append_value(list.map(Some)));
    builder.finish()
}

fn encode(columns: Vec<(&str, ArrayRef, bool)>) -> Encoded {
    let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(arrow)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

fn arrow(error: ArrowError) -> ParquetError {
    ParquetError::ArrowError(error.to_string())
}

/// A table being read: its batches and its name for error messages.
struct Table<'a> {
    path: &'a Path,
    batches: Vec<RecordBatch>,
}

impl<'a> Table<'a> {
    fn read(path: &'a Path) -> Result<Self, DataFolderError> {
        let file = std::fs::File::open(path).map_err(|error| DataFolderError::io(path, error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        let reader = reader.map_err(|error| DataFolderError::content(path, error))?;
        let batches = reader.collect::<Result<_, _>>().map_err(|error| DataFolderError::content(path, error))?;
        Ok(Self { path, batches })
    }

    /// Reads all rows of the table at `path` as `row(batch columns, position)`, after checking the types of the columns.
    fn rows<T>(
        path: &Path,
        columns: &[(&str, DataType)],
        row: impl FnMut(&[ArrayRef], usize) -> Result<T, DataFolderError>,
    ) -> Result<Vec<T>, DataFolderError> {
        // The libraries assert what a writer would never do, such as a column that begins at a negative offset.
        let read = AssertUnwindSafe(|| Table::read(path)?.collect(columns, row));
        catch_unwind(read).unwrap_or_else(|_| Err(DataFolderError::content(path, "not a table that was written")))
    }

    fn collect<T>(
        &self,
        columns: &[(&str, DataType)],
        mut row: impl FnMut(&[ArrayRef], usize) -> Result<T, DataFolderError>,
    ) -> Result<Vec<T>, DataFolderError> {
        let mut rows = Vec::new();
        for batch in &self.batches {
            let mut arrays = Vec::with_capacity(columns.len());
            for (name, expected) in columns {
                let array = batch.column_by_name(name).filter(|array| same_kind(array.data_type(), expected));
                let reason = || format!("column `{name}` is missing or not of type {expected}");
                arrays.push(array.ok_or_else(|| DataFolderError::content(self.path, reason()))?.clone());
            }
            for position in 0..batch.num_rows() {
                rows.push(row(&arrays, position)?);
            }
        }
        Ok(rows)
    }
}

/// Whether the types agree, not looking at the names of list elements.
fn same_kind(found: &DataType, expected: &DataType) -> bool {
    match (found, expected) {
        (DataType::List(found), DataType::List(expected)) => found.data_type() == expected.data_type(),
        _ => found == expected,
    }
}

/// Reads the items; their spelling is in the prefix tree.
///
/// # Errors
/// [`DataFolderError::Io`] and [`DataFolderError::Content`].
pub fn read_items(path: &Path) -> Result<Vec<Item>, DataFolderError> {
    Table::rows(path, &[("id", DataType::Utf8), ("title", DataType::Utf8)], |columns, at| {
        let text = |column: usize| columns[column].as_string::<i32>().value(at).to_owned();
        Ok(Item { id: text(0), title: text(1) })
    })
}

/// Reads the rows of a split.
///
/// # Errors
/// [`DataFolderError::Io`] and [`DataFolderError::Content`].
pub fn read_rows(path: &Path) -> Result<Vec<Row>, DataFolderError> {
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::UInt32, false)));
    let columns =
        [("user", DataType::Utf8), ("history", list), ("target", DataType::UInt32), ("time", DataType::Int64)];
    let mut next = 0..;
    Table::rows(path, &columns, |columns, at| {
        let user = columns[0].as_string::<i32>();
        let history = columns[1].as_list::<i32>().value(at);
        let time = columns[3].as_primitive::<arrow_array::types::Int64Type>();
        Ok(Row {
            id: RowId(next.next().unwrap_or(u32::MAX)),
            user: user.is_valid(at).then(|| user.value(at).to_owned()),
            history: history.as_primitive::<UInt32Type>().values().iter().copied().map(ItemIndex).collect(),
            target: ItemIndex(columns[2].as_primitive::<UInt32Type>().value(at)),
            time: time.is_valid(at).then(|| time.value(at)),
        })
    })
}

/// Reads prompts, which must be rows of `dataset`.
///
/// # Errors
/// [`DataFolderError::Io`] and [`DataFolderError::Content`].
pub fn read_prompts(path: &Path, dataset: &Dataset) -> Result<Vec<PromptRow>, DataFolderError> {
    Table::rows(path, &[("split", DataType::Utf8), ("row", DataType::UInt32)], |columns, at| {
        let name = columns[0].as_string::<i32>().value(at);
        let row = columns[1].as_primitive::<UInt32Type>().value(at);
        let split = Split::ALL.into_iter().find(|split| split.name() == name);
        match split.filter(|&split| (row as usize) < dataset.rows(split).len()) {
            Some(split) => Ok((split, RowId(row))),
            None => {
                Err(DataFolderError::content(path, format!("prompt {at}: there is no row {row} in split `{name}`")))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: the libraries panic on them.
    #[test]
    fn tables_that_nobody_can_have_written_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.parquet");
        let item = Item { id: "a".to_owned(), title: "Alpha".to_owned() };
        let dataset = Dataset::new(vec![item], vec![], vec![], vec![]).unwrap();
        let expected = format!("`{}`: not a table that was written", path.display());

        std::fs::write(&path, include_bytes!("tables/negative_offset.parquet")).unwrap();
        assert_eq!(read_prompts(&path, &dataset).unwrap_err().to_string(), expected);
        std::fs::write(&path, include_bytes!("tables/too_few_bits.parquet")).unwrap();
        assert_eq!(read_rows(&path).unwrap_err().to_string(), expected);
    }
}
