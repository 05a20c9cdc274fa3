//! What can be wrong with an objective's configuration or batch.

use std::fmt;

/// Where in a batch a sequence of tokens stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A completion of a group.
    Completion {
        /// Position of the group in the batch.
        group: usize,
        /// Position of the completion in the group.
        completion: usize,
    },
    /// The target of a group.
    Target {
        /// Position of the group in the batch.
        group: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completion { group, completion } => write!(formatter, "group {group}, completion {completion}"),
            Self::Target { group } => write!(formatter, "group {group}, target"),
        }
    }
}

/// Why the objective cannot be evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ObjectiveError {
    /// A setting lies outside its range.
    #[error("`{field}` is {value}: expected {expected}")]
    Setting {
        /// The setting, as spelled in the configuration.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The allowed range, in words.
        expected: &'static str,
    },
    /// The batch holds no group.
    #[error("the batch holds no group")]
    EmptyBatch,
    /// A group holds no completion although the loss needs them.
    #[error("group {group} holds no completion")]
    EmptyGroup {
        /// Position of the group in the batch.
        group: usize,
    },
    /// A sequence holds no token.
    #[error("{place}: the sequence holds no token")]
    EmptySequence {
        /// Where.
        place: Place,
    },
    /// A per-token list is missing or has the wrong length.
    #[error("{place}: `{field}` has {got} entries: expected {expected}, one per entry of `children`")]
    Length {
        /// Where.
        place: Place,
        /// Name of the list.
        field: &'static str,
        /// Number of tokens.
        expected: usize,
        /// Number of entries found.
        got: usize,
    },
    /// A number of the batch is infinite or not a number.
    #[error("{place}: `{field}` of token {token} is {value}: expected a finite number")]
    TokenNotFinite {
        /// Where.
        place: Place,
        /// Name of the list.
        field: &'static str,
        /// Position of the token.
        token: usize,
        /// The value found.
        value: f64,
    },
    /// A share of information that is none.
    #[error("{place}: `information` of token {token} is {value}: expected a number from 0 to 1")]
    Information {
        /// Where.
        place: Place,
        /// Position of the token.
        token: usize,
        /// The value found.
        value: f64,
    },
    /// A reward is infinite or not a number.
    #[error("{place}: the reward is {value}: expected a finite number")]
    RewardNotFinite {
        /// Where.
        place: Place,
        /// The value found.
        value: f64,
    },
    /// A token whose tree node has no legal child.
    #[error("{place}: `children` of token {token} is 0: a token that exists has at least one legal continuation")]
    NoChildren {
        /// Where.
        place: Place,
        /// Position of the token.
        token: usize,
    },
    /// The inputs are finite but the result is not, for example because an importance ratio overflows.
    #[error(
        "the {quantity} of the batch is {value}: log-probabilities of current and behaviour policy lie too far apart"
    )]
    ResultNotFinite {
        /// What overflowed.
        quantity: &'static str,
        /// Its value.
        value: f64,
    },
}
