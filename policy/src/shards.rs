//! Cutting a batch into **shards**: forests small enough that a pass over one stays in a core's cache, many enough that
//! every core has one.
//!
//! Shards are passed forward and backward independently, each on one thread, and their gradients are summed in order. Where
//! the cuts fall depends on the batch and the model alone, so a result does not depend on the number of threads.

use std::ops::Range;

/// Rows that a shard should have: a hidden state of 512 numbers then takes half a MiB.
const SHARD_ROWS: usize = 256;

/// Scalars of gradients that the shards of one batch may hold together (256 MiB).
const MAX_GRADIENT_SCALARS: usize = 64 << 20;

/// Rows of a shard for a model of `num_scalars` parameters when at most `budget` rows are in memory at a time.
///
/// Every shard has gradients of its own for a moment, so a large model gets few shards.
pub(crate) fn rows_per_shard(budget: usize, num_scalars: usize) -> usize {
    let most_shards = (MAX_GRADIENT_SCALARS / num_scalars.max(1)).max(1);
    budget.div_ceil(most_shards).max(SHARD_ROWS).min(budget.max(1))
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
        if seen * num_runs >= total * (runs.len() + 1) {
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
    fn a_large_model_has_one_shard_and_a_small_one_many() {
        assert_eq!(rows_per_shard(8192, 1_500_000_000), 8192);
        assert_eq!(rows_per_shard(8192, 1_300_000), 256);
        assert_eq!(rows_per_shard(8192, 16 << 20), 2048);
        assert_eq!(rows_per_shard(100, 1_300_000), 100);
    }
}
