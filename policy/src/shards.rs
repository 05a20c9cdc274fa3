//! Cutting a batch into **shards**: forests small enough that a pass over one stays in a core's cache, many enough that
//! every core has one.
//!
//! Shards are passed forward and backward independently, each on one thread. Their gradients are summed in **lanes**: runs of
//! shards that follow each other, each with memory for one sum, added in order at the end. Where the cuts fall depends on the
//! batch and the model alone, so a result does not depend on the number of threads.

use crate::kernels::Kernels;
use std::ops::Range;

/// Rows that a shard should have: a hidden state of 512 numbers then takes half a MiB.
const SHARD_ROWS: usize = 256;

/// Most lanes: as many threads are busy in the backward pass of a small model; more would spend their time with adding sums.
const MOST_LANES: usize = 8;

/// Scalars of gradients that all lanes may hold together (256 MiB).
const MAX_GRADIENT_SCALARS: usize = 64 << 20;

/// Rows of a shard when at most `budget` rows are in memory at a time. Other devices take the whole budget at once.
pub(crate) fn rows_per_shard(budget: usize, kernels: Kernels) -> usize {
    match kernels {
        Kernels::Fused => SHARD_ROWS.min(budget.max(1)),
        Kernels::Composed => budget,
    }
}

/// The lanes of shards with `rows` each, for a model of `num_scalars` parameters.
pub(crate) fn lanes(rows: &[usize], num_scalars: usize) -> Vec<Range<usize>> {
    cut(rows, rows.iter().sum::<usize>().div_ceil(most_lanes(num_scalars)))
}

/// Most lanes of a model of `num_scalars` parameters.
pub(crate) fn most_lanes(num_scalars: usize) -> usize {
    (MAX_GRADIENT_SCALARS / num_scalars.max(1)).clamp(1, MOST_LANES)
}

/// Cuts a list of trees with `rows` each into runs of about equal size, as many as runs of `limit` rows would take.
///
/// A run is at most one tree longer than `limit`; no tree is cut.
pub(crate) fn cut(rows: &[usize], limit: usize) -> Vec<Range<usize>> {
    let total: usize = rows.iter().sum();
    let num_runs = total.div_ceil(limit.max(1)).max(1);
    let mut runs: Vec<Range<usize>> = vec![];
    let (mut start, mut seen) = (0, 0);
    for (at, rows) in rows.iter().enumerate() {
        seen += rows;
        // The run ends where its share of the total is reached.
        if seen as u128 * num_runs as u128 >= total as u128 * (runs.len() as u128 + 1) {
            runs.push(start..at + 1);
            start = at + 1;
        }
    }
    if start < rows.len() {
        runs.push(start..rows.len());
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_cover_all_trees_in_order_and_exceed_the_limit_by_less_than_one_tree(
            rows in prop::collection::vec(1_usize..200, 0..60), limit in 1_usize..600,
        ) {
            let runs = cut(&rows, limit);
            let covered: Vec<usize> = runs.iter().cloned().flatten().collect();
            prop_assert_eq!(covered, (0..rows.len()).collect::<Vec<_>>());
            let largest = rows.iter().copied().max().unwrap_or(0);
            for run in runs {
                prop_assert!(!run.is_empty());
                prop_assert!(rows[run].iter().sum::<usize>() < limit + largest.max(1));
            }
        }
    }

    #[test]
    fn runs_of_like_trees_are_of_like_size() {
        assert_eq!(cut(&[10; 9], 40), [0..3, 3..6, 6..9]);
        assert!(cut(&[], 40).is_empty());
    }

    #[test]
    fn a_large_model_has_one_lane_and_a_small_one_several() {
        assert_eq!(lanes(&[250; 16], 1_500_000_000).len(), 1);
        assert_eq!(lanes(&[250; 16], 30_000_000), [0..8, 8..16]);
        assert_eq!(lanes(&[250; 16], 1_300_000).len(), 8);
        assert_eq!(lanes(&[250; 3], 1_300_000), [0..1, 1..2, 2..3]);
    }
}
