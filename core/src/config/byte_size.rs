//! Sizes of memory as people write them.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Units from the largest to the smallest.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A number of bytes, written as `2 GiB`, `512 MiB` or plain `1000000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct ByteSize(pub u64);

/// As it may stand in a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

/// Text that is no size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a size of memory: write for example \"2 GiB\", \"512 MiB\" or a number of bytes")]
pub struct ByteSizeError(String);

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let wrong = || ByteSizeError(text.to_owned());
        let trimmed = text.trim();
        let unit = UNITS.iter().find_map(|&(name, bytes)| Some((trimmed.strip_suffix(name)?, bytes)));
        let Some((number, unit)) = unit else {
            return trimmed.parse().ok().filter(|&bytes| bytes > 0).map(Self).ok_or_else(wrong);
        };
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let bytes = number * unit as f64;
        if bytes >= 1.0 && bytes < 2.0_f64.powi(63) { Ok(Self(bytes as u64)) } else { Err(wrong()) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((name, bytes)) => write!(formatter, "{} {name}", self.0 / bytes),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl TryFrom<Written> for ByteSize {
    type Error = ByteSizeError;

    fn try_from(written: Written) -> Result<Self, ByteSizeError> {
        match written {
            Written::Number(bytes) => bytes.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn a_file_may_say_a_size_in_words_or_as_a_number() {
        for (text, bytes) in
            [("\"2 GiB\"", Some(2 << 30)), ("4096", Some(4096)), ("0", None), ("-1", None), ("true", None)]
        {
            assert_eq!(serde_json::from_str::<ByteSize>(text).ok(), bytes.map(ByteSize), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them_and_survive_being_written() {
        for (text, bytes) in
            [("2 GiB", 2 << 30), ("1.5GiB", 3 << 29), (" 512 MiB ", 512 << 20), ("4096", 4096), ("1000", 1000)]
        {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().parse()), (bytes, Ok(size)));
        }
        for text in ["", "2 GB", "GiB", "-1 MiB", "1e30 TiB", "0 KiB", "0", "two"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
