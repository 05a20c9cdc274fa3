//! Which rows make which batch: a pure function of seed and step, so that an interrupted run goes on exactly.
//!
//! Each epoch is a fresh permutation. It is cut into pools of `pool_batches` batches; inside a pool rows are sorted by
//! length and dealt into batches of like length, and the batches of a pool are shuffled again (length bucketing).

use crate::random::Seed;
use rand::seq::SliceRandom;

/// The batches of a training run.
#[derive(Debug, Clone)]
pub struct BatchOrder {
    seed: Seed,
    lengths: Vec<u32>,
    rows_per_batch: usize,
    pool_batches: usize,
    /// The epoch whose batches are held.
    epoch: Option<u64>,
    batches: Vec<Vec<u32>>,
}

impl BatchOrder {
    /// Batches of `rows_per_batch` rows of the given token counts. `pool_batches = 1` switches bucketing off.
    ///
    /// # Panics
    /// If there are no rows or a size is 0; the configuration checks both.
    pub fn new(seed: Seed, lengths: Vec<u32>, rows_per_batch: usize, pool_batches: usize) -> Self {
        assert!(!lengths.is_empty() && rows_per_batch > 0 && pool_batches > 0, "batches need rows and sizes");
        let rows_per_batch = rows_per_batch.min(lengths.len());
        Self { seed, lengths, rows_per_batch, pool_batches, epoch: None, batches: vec![] }
    }

    /// Full batches in an epoch; rows left over wait for another epoch's permutation.
    pub fn batches_per_epoch(&self) -> u64 {
        (self.lengths.len() / self.rows_per_batch) as u64
    }

    /// The rows of the batch of step `step` (0-based).
    pub fn batch(&mut self, step: u64) -> &[u32] {
        let (epoch, at) = (step / self.batches_per_epoch(), step % self.batches_per_epoch());
        if self.epoch != Some(epoch) {
            self.batches = self.deal(epoch);
            self.epoch = Some(epoch);
        }
        &self.batches[at as usize]
    }

    fn deal(&self, epoch: u64) -> Vec<Vec<u32>> {
        let mut stream = self.seed.stream("batches", &[epoch]);
        let mut rows: Vec<u32> = (0..self.lengths.len() as u32).collect();
        rows.shuffle(&mut stream);
        rows.truncate(self.batches_per_epoch() as usize * self.rows_per_batch);
        let mut batches = vec![];
        for pool in rows.chunks_mut(self.pool_batches * self.rows_per_batch) {
            if self.pool_batches > 1 {
                pool.sort_by_key(|&row| self.lengths[row as usize]);
            }
            let mut dealt: Vec<Vec<u32>> = pool.chunks(self.rows_per_batch).map(<[u32]>::to_vec).collect();
            dealt.shuffle(&mut stream);
            batches.append(&mut dealt);
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_visits_every_row_once_and_steps_can_be_asked_in_any_order(
            rows in 1_usize..200, per_batch in 1_usize..40, pool in 1_usize..6, seed: u64,
        ) {
            let order = BatchOrder::new(Seed(seed), (0..rows as u32).map(|row| row * 7 % 31).collect(), per_batch, pool);
            let per_epoch = order.batches_per_epoch();
            let mut forward = order.clone();
            let batches: Vec<Vec<u32>> = (0..2 * per_epoch).map(|step| forward.batch(step).to_vec()).collect();
            for epoch in batches.chunks(per_epoch as usize) {
                let mut seen: Vec<u32> = epoch.concat();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), per_epoch as usize * per_batch.min(rows));
            }
            let mut backward = order;
            for step in (0..2 * per_epoch).rev() {
                prop_assert_eq!(backward.batch(step), &batches[step as usize][..]);
            }
        }
    }

    #[test]
    fn pooled_batches_hold_rows_of_like_length() {
        let lengths: Vec<u32> = (0..640).map(|row| row * 37 % 101).collect();
        let spread = |pool| {
            let mut order = BatchOrder::new(Seed(1), lengths.clone(), 8, pool);
            let of_batch = |batch: &[u32]| {
                let lengths = || batch.iter().map(|&row| lengths[row as usize]);
                lengths().max().unwrap() - lengths().min().unwrap()
            };
            (0..80).map(|step| of_batch(order.batch(step))).sum::<u32>() / 80
        };
        assert!(spread(10) * 4 < spread(1), "{} against {}", spread(10), spread(1));
    }
}
