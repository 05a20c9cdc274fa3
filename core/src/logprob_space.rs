//! Which softmax a log-probability comes from.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The set of tokens over which a token's probability is normalised.
///
/// Constrained sampling draws from one of these policies and a language model is usually trained on the other, so every
/// log-probability says which space it is in and nothing mixes the two silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogprobSpace {
    /// The softmax over the whole vocabulary, the RISER paper's reading: forced tokens carry loss, so the certainty mask
    /// acts on them, and the probabilities of all items sum to less than 1.
    Vocabulary,
    /// The softmax over the legal children of a prefix-tree node, which is what constrained sampling really draws from:
    /// the probabilities of all items sum to 1, a forced token has log-probability 0 and no gradient, and the output
    /// head shrinks to the children.
    Catalog,
}

impl LogprobSpace {
    /// The name used in configuration files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vocabulary => "vocabulary",
            Self::Catalog => "catalog",
        }
    }
}

impl fmt::Display for LogprobSpace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A text that names no log-probability space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a log-probability space: expected `vocabulary` or `catalog`")]
pub struct UnknownLogprobSpace {
    /// The offending text.
    pub text: String,
}

impl FromStr for LogprobSpace {
    type Err = UnknownLogprobSpace;

    fn from_str(text: &str) -> Result<Self, UnknownLogprobSpace> {
        match text {
            "vocabulary" => Ok(Self::Vocabulary),
            "catalog" => Ok(Self::Catalog),
            _ => Err(UnknownLogprobSpace { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_is_spelled_the_same_in_text_and_in_files() {
        for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
            assert_eq!(space.to_string().parse(), Ok(space));
            assert_eq!(serde_json::to_value(space).unwrap(), space.name());
        }
        assert!("Catalog".parse::<LogprobSpace>().is_err());
    }
}
