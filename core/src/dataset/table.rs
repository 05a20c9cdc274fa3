//! Records of named columns from CSV, TSV and JSON-lines files, plain or gzipped, each with its place for error messages.

use super::DatasetError;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.path, self.line)
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Comma separated, with a header, quotes where needed.
    Csv,
    /// Tab separated, with a header, no quoting.
    Tsv,
    /// One JSON object a line.
    Jsonl,
}

impl FileFormat {
    /// Tells the format from the file's name, `.gz` aside.
    ///
    /// # Errors
    /// [`DatasetError::UnknownFormat`].
    pub fn of(path: &Path) -> Result<Self, DatasetError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        match name.trim_end_matches(".gz").rsplit('.').next() {
            Some("csv") => Ok(Self::Csv),
            Some("tsv" | "inter" | "item") => Ok(Self::Tsv),
            Some("jsonl" | "ndjson" | "json") => Ok(Self::Jsonl),
            _ => Err(DatasetError::UnknownFormat { path: path.display().to_string() }),
        }
    }
}

/// A column a reader wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    /// Whether a file without it is an error.
    pub(super) required: bool,
}

impl<'a> Column<'a> {
    pub(super) fn required(name: &'a str) -> Self {
        Self { name, required: true }
    }
}

/// One record: the wanted columns in the order asked for.
pub(super) struct Record {
    pub(super) place: Place,
    pub(super) values: Vec<Option<String>>,
}

impl Record {
    /// The value of a required column; empty where the record lacks it.
    pub(super) fn required(&self, column: usize) -> &str {
        self.values[column].as_deref().unwrap_or_default()
    }
}

/// Opens a file, unpacking it if its name ends in `.gz`.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, DatasetError> {
    let file = std::fs::File::open(path).map_err(|source| io(path, source))?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    };
    Ok(Box::new(BufReader::with_capacity(1 << 16, reader)))
}

pub(super) fn io(path: &Path, source: std::io::Error) -> DatasetError {
    DatasetError::Io { path: path.display().to_string(), source }
}

/// Hands every record of a file to `take`.
pub(super) fn read(
    path: &Path,
    format: FileFormat,
    columns: &[Column<'_>],
    take: impl FnMut(Record) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    match format {
        FileFormat::Csv => read_delimited(path, b',', columns, take),
        FileFormat::Tsv => read_delimited(path, b'\t', columns, take),
        FileFormat::Jsonl => read_jsonl(path, columns, take),
    }
}

fn read_delimited(
    path: &Path,
    delimiter: u8,
    columns: &[Column<'_>],
    mut take: impl FnMut(Record) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let mut builder = csv::ReaderBuilder::new();
    // A quote inside a tab-separated title is a quote, not the start of a quoted field.
    builder.delimiter(delimiter).quoting(delimiter == b',');
    let mut reader = builder.from_reader(open(path)?);
    let text = path.display().to_string();
    // After CRLF the reader counts a record from the LF of the line before, so the first record seems to stand on line 1.
    let mut shift = None;
    let mut line_of = |position: Option<&csv::Position>| {
        let line = position.map_or(1, csv::Position::line);
        line + *shift.get_or_insert(u64::from(line == 1))
    };
    let syntax = |error: &csv::Error, line: u64| DatasetError::Syntax {
        place: Place { path: text.clone(), line },
        reason: reason(error),
    };
    let headers = reader.headers().map_err(|error| syntax(&error, 1))?.clone();
    let mut positions = Vec::with_capacity(columns.len());
    for column in columns {
        let position = headers.iter().position(|header| header.trim_start_matches('\u{feff}') == column.name);
        if column.required && position.is_none() {
            let columns = headers.iter().map(|header| format!("`{header}`")).collect::<Vec<_>>().join(", ");
            return Err(DatasetError::NoColumn { path: text.clone(), column: column.name.to_owned(), columns });
        }
        positions.push(position);
    }
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| syntax(&error, line_of(error.position())))? {
        let values =
            positions.iter().map(|position| position.and_then(|at| record.get(at)).map(str::to_owned)).collect();
        let line = line_of(record.position());
        take(Record { place: Place { path: text.clone(), line }, values })?;
    }
    Ok(())
}

/// The library's messages repeat the position, so say it in our words.
fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the line has {len} fields where the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the line is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

/// Hands every line of a file to `take`, without its line break.
pub(super) fn lines(
    path: &Path,
    mut take: impl FnMut(Place, String) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    for (index, line) in open(path)?.lines().enumerate() {
        let place = Place { path: path.display().to_string(), line: index as u64 + 1 };
        match line {
            Ok(line) => take(place, line)?,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(DatasetError::Syntax { place, reason: format!("the line cannot be read: {error}") });
            }
            Err(error) => return Err(io(path, error)),
        }
    }
    Ok(())
}

fn read_jsonl(
    path: &Path,
    columns: &[Column<'_>],
    mut take: impl FnMut(Record) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let mut is_first = true;
    lines(path, |place, line| {
        if line.trim().is_empty() {
            return Ok(());
        }
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).map_err(|error| {
            DatasetError::Syntax { place: place.clone(), reason: format!("not a JSON object: {error}") }
        })?;
        // The first line stands for the header. A key that only later lines lack is a mistake of those, and the reader says so.
        if let Some(column) =
            columns.iter().find(|column| is_first && column.required && !object.contains_key(column.name))
        {
            let columns = object.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            return Err(DatasetError::NoColumn { path: place.path, column: column.name.to_owned(), columns });
        }
        is_first = false;
        let value = |column: &Column<'_>| match object.get(column.name) {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(value)) => Some(value.clone()),
            Some(value) => Some(value.to_string()),
        };
        take(Record { place, values: columns.iter().map(value).collect() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Line and values of a record.
    type Read = (u64, Vec<Option<String>>);

    fn read_all(name: &str, content: &[u8], columns: &[Column<'_>]) -> Result<Vec<Read>, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut records = Vec::new();
        read(&path, FileFormat::of(&path)?, columns, |record| {
            records.push((record.place.line, record.values));
            Ok(())
        })?;
        Ok(records)
    }

    fn wanted() -> [Column<'static>; 2] {
        [Column::required("title"), Column { name: "time", required: false }]
    }

    #[test]
    fn all_formats_give_the_same_records() {
        let csv = read_all("a.csv", b"time,title\r\n5,\"a, \"\"b\"\"\"\r\n6,c\r\n", &wanted()).unwrap();
        let tsv = read_all("a.tsv", b"time\ttitle\n5\ta, \"b\"\n6\tc\n", &wanted()).unwrap();
        let jsonl = b"{\"time\": 5, \"title\": \"a, \\\"b\\\"\"}\n{\"title\": \"c\", \"time\": \"6\"}\n";
        let json = read_all("a.jsonl", jsonl, &wanted()).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(jsonl).unwrap();
        let packed = read_all("a.jsonl.gz", &gzip.finish().unwrap(), &wanted()).unwrap();
        let values = |records: &[Read]| records.iter().map(|(_, v)| v.clone()).collect::<Vec<_>>();
        assert_eq!(csv, tsv);
        assert_eq!(json, packed);
        assert_eq!(values(&csv), values(&json));
        assert_eq!(csv[0], (2, vec![Some("a, \"b\"".to_owned()), Some("5".to_owned())]));
    }

    #[test]
    fn a_missing_required_column_names_the_columns_there_are() {
        let error = read_all("a.csv", b"name,time\nx,1\n", &wanted()).unwrap_err().to_string();
        assert!(error.ends_with("a.csv` has no column `title`; its columns are `name`, `time`"), "{error}");
        assert!(read_all("a.csv", b"title\nx\n", &wanted()).is_ok());
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = read_all("a.csv", b"title,time\nx,1\ny\n", &wanted()).unwrap_err().to_string();
        assert!(error.ends_with("a.csv:3: the line has 1 fields where the header has 2"), "{error}");
        let error = read_all("a.csv", b"title,time\r\nx,1\r\ny\r\n", &wanted()).unwrap_err().to_string();
        assert!(error.contains("a.csv:3: the line has 1 fields"), "{error}");
        let error = read_all("a.jsonl", b"{\"title\": \"x\"}\n[]\n", &wanted()).unwrap_err().to_string();
        assert!(error.contains("a.jsonl:2: not a JSON object"), "{error}");
        let error = read_all("a.csv", b"title,time\n\xff,1\n", &wanted()).unwrap_err().to_string();
        assert!(error.ends_with("a.csv:2: the line is not UTF-8"), "{error}");
    }

    #[test]
    fn an_unknown_ending_is_refused() {
        let error = read_all("a.parquet", b"", &wanted()).unwrap_err();
        assert!(matches!(error, DatasetError::UnknownFormat { .. }), "{error}");
    }
}
