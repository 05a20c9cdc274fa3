//! Which row of the dataset is the prompt of which group: one shuffled pass after another.
//!
//! ```text
//! row(g) = permutation_e [g mod N],    e = g / N,    permutation_e drawn from stream "prompts" with key e
//! ```

use crate::{
    ids::{GroupId, RowId},
    random::Seed,
};
use rand::seq::SliceRandom;
use std::num::NonZeroU32;

/// The order of prompts of a run: a function of the seed, the number of rows and the group, and of nothing else.
#[derive(Debug, Clone)]
pub struct PromptOrder {
    seed: Seed,
    num_rows: NonZeroU32,
    /// The pass asked for last; a cache, not a state: groups come in any order.
    epoch: u64,
    permutation: Vec<u32>,
}

impl PromptOrder {
    /// The order of `num_rows` rows under `seed`.
    pub fn new(seed: Seed, num_rows: NonZeroU32) -> Self {
        Self { seed, num_rows, epoch: 0, permutation: permutation(seed, num_rows, 0) }
    }

    /// The row that prompts `group`.
    pub fn row(&mut self, group: GroupId) -> RowId {
        let num_rows = u64::from(self.num_rows.get());
        let epoch = group.0 / num_rows;
        if epoch != self.epoch {
            self.permutation = permutation(self.seed, self.num_rows, epoch);
            self.epoch = epoch;
        }
        RowId(self.permutation[(group.0 % num_rows) as usize])
    }
}

fn permutation(seed: Seed, num_rows: NonZeroU32, epoch: u64) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..num_rows.get()).collect();
    rows.shuffle(&mut seed.stream("prompts", &[epoch]));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64, num_rows: u32) -> PromptOrder {
        PromptOrder::new(Seed(seed), num_rows.try_into().unwrap())
    }

    #[test]
    fn every_pass_shows_every_row_once_in_its_own_order() {
        let mut order = order(7, 50);
        let mut pass = |epoch: u64| -> Vec<u32> { (0..50).map(|g| order.row(GroupId(epoch * 50 + g)).0).collect() };
        let (first, second) = (pass(0), pass(1));
        assert_ne!(first, second);
        for mut rows in [first, second] {
            rows.sort_unstable();
            assert_eq!(rows, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_group_has_one_row_whatever_was_asked_before() {
        let forwards: Vec<RowId> = (0..60).map(|g| order(3, 20).row(GroupId(g))).collect();
        let mut backwards = order(3, 20);
        for g in (0..60).rev() {
            assert_eq!(backwards.row(GroupId(g)), forwards[g as usize]);
        }
    }

    /// Pinned: a change here means that a dependency changed its shuffle, and with it every run.
    #[test]
    fn the_order_of_a_seed_is_pinned() {
        let mut order = order(1, 8);
        let rows: Vec<u32> = (0..8).map(|g| order.row(GroupId(g)).0).collect();
        assert_eq!(rows, [4, 1, 5, 6, 7, 3, 2, 0]);
    }
}
