//! Ranking metrics: how good recommendations are, how sure we may be, and how much of the catalog they show.
//!
//! - [`Rank`] and [`Metric`]: HR@K and NDCG@K from the position of the target in a ranked list, by item id;
//! - [`Bootstrap`]: confidence intervals over rows or users, and the paired comparison of two systems;
//! - [`Exposure`]: coverage and Gini index of what was recommended.

mod bootstrap;
mod exposure;
mod ranking;

pub use bootstrap::{Bootstrap, Clusters, Interval, PairedDifference};
pub use exposure::Exposure;
pub use ranking::{Metric, Rank};

use crate::ids::ItemIndex;

/// Why a metric cannot be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// Nothing to average.
    #[error("there are no rows to measure")]
    NoRows,
    /// Lists that belong together have different lengths.
    #[error("`{what}` has {got} entries: expected {expected}, one per row")]
    Length {
        /// The list.
        what: &'static str,
        /// Number of rows.
        expected: usize,
        /// Number of entries found.
        got: usize,
    },
    /// A value is infinite or not a number.
    #[error("the value of row {row} is {value}: expected a finite number")]
    NotFinite {
        /// The row.
        row: usize,
        /// Its value.
        value: f64,
    },
    /// A bootstrap without resamples.
    #[error("the bootstrap has no resamples: expected at least 1")]
    NoResamples,
    /// A confidence level that is no probability.
    #[error("the confidence level is {value}: expected a number between 0 and 1")]
    Confidence {
        /// The level asked for.
        value: f64,
    },
    /// A recommended item that the catalog does not have.
    #[error("item {item} is not in the catalog of {num_items} items")]
    UnknownItem {
        /// The item.
        item: ItemIndex,
        /// Size of the catalog.
        num_items: usize,
    },
}
