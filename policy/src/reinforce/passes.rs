//! How a batch is cut: groups into shards, shards into passes that fit into memory.
//!
//! A pass that leaves no room for the exponentials of its logits computes them again when it goes back. That is less work than
//! a second pass, which would compute everything again.

use super::{GroupForest, Reinforce, ReinforceSettings};
use crate::{
    forest::Forest,
    kernels::Kernels,
    memory::{self, Allowance, MemoryError, MemoryPlan},
    shards,
};
use riser_core::{group::RolloutGroup, prefix_tree::PrefixTree};
use std::ops::Range;

/// A batch in pieces.
pub(super) struct Cut<'g> {
    pub(super) shards: Vec<GroupForest<'g>>,
    pub(super) passes: Vec<Pass>,
    /// Rows that a shard of the reference should have.
    pub(super) per_shard: usize,
}

/// Shards that are passed together.
#[derive(Debug)]
pub(super) struct Pass {
    /// A run of the batch's.
    pub(super) shards: Range<usize>,
    /// Whether the exponentials of logits stay in memory from the forward pass to the backward pass.
    pub(super) keeps_exponentials: bool,
}

impl Reinforce {
    /// The memory that a step on `groups` takes.
    ///
    /// # Errors
    /// [`MemoryError`] if that is more than there may be.
    pub fn memory(
        &self,
        catalog: &PrefixTree,
        groups: &[RolloutGroup],
    ) -> std::result::Result<MemoryPlan, MemoryError> {
        let Cut { shards, passes, .. } = self.cut(catalog, groups)?;
        let of_pass = |pass: &Pass| self.tape_bytes(&shards[pass.shards.clone()], pass.keeps_exponentials).iter().sum();
        let beside = match self.reference {
            Some(_) => self.tape_bytes(&shards, false).into_iter().max().unwrap_or(0),
            None => 0,
        };
        Ok(MemoryPlan {
            fixed_bytes: self.allowance(usize::MAX).fixed,
            tape_bytes: passes.iter().map(of_pass).max().unwrap_or(0) + beside,
            passes: passes.len(),
        })
    }

    /// Cuts a batch.
    ///
    /// # Errors
    /// [`MemoryError`] if not even one tree fits.
    pub(super) fn cut<'g>(
        &self,
        catalog: &PrefixTree,
        groups: &'g [RolloutGroup],
    ) -> std::result::Result<Cut<'g>, MemoryError> {
        let all: Vec<&RolloutGroup> = groups.iter().collect();
        let per_shard = self.rows_per_shard();
        let shards = self.shards(catalog, &all, per_shard);
        let rows: Vec<usize> = shards.iter().map(|shard| shard.forest.num_rows()).collect();
        let by_rows = shards::cut(&rows, self.settings.micro_batch_tokens);
        // What other devices take is not known here.
        let is_known = self.training.inference_model().kernels() == Kernels::Fused;
        let Some(limit) = self.settings.memory_limit.filter(|_| is_known) else {
            let passes = by_rows.into_iter().map(|run| self.pass(&shards, run, usize::MAX)).collect();
            return Ok(Cut { shards, passes, per_shard });
        };
        let allowance = self.allowance(limit);
        let least = self.tape_bytes(&shards, false);
        let fitting = if allowance.fits(&least, &by_rows) { Ok(by_rows) } else { allowance.cut(&least) };
        let (shards, least, runs) = match fitting {
            Ok(runs) => (shards, least, runs),
            Err(_) => {
                let trees = self.shards(catalog, &all, 1);
                let least = self.tape_bytes(&trees, false);
                let error = |place: usize| allowance.error(trees[place].forest.num_rows(), least[place]);
                let runs = allowance.cut(&least).map_err(error)?;
                (trees, least, runs)
            }
        };
        let room = allowance.room(&least);
        let passes = runs.into_iter().map(|run| self.pass(&shards, run, room)).collect();
        // The reference scores some of the groups, which in other company might make a larger shard than any of these.
        Ok(Cut { shards, passes, per_shard: 1 })
    }

    /// A pass over a run of shards, which may take `room` bytes.
    fn pass(&self, shards: &[GroupForest<'_>], run: Range<usize>, room: usize) -> Pass {
        let of_run = &shards[run.clone()];
        let forests: Vec<&Forest> = of_run.iter().map(|shard| &shard.forest).collect();
        let keeps_exponentials = self.training.may_keep_exponentials(self.settings.space, &forests)
            && self.tape_bytes(of_run, true).iter().sum::<usize>() <= room;
        Pass { shards: run, keeps_exponentials }
    }

    /// Bytes on the tape of each shard, at most.
    fn tape_bytes(&self, shards: &[GroupForest<'_>], keep: bool) -> Vec<usize> {
        let of_shard = |shard: &GroupForest<'_>| self.training.tape_numbers(&shard.forest, self.settings.space, keep);
        shards.iter().map(|shard| memory::bytes(of_shard(shard))).collect()
    }

    fn allowance(&self, limit: usize) -> Allowance {
        let has_reference = self.reference.is_some();
        let fixed = memory::fixed_bytes(self.training.parameters().num_scalars(), has_reference);
        Allowance { limit, fixed, has_reference }
    }

    pub(super) fn rows_per_shard(&self) -> usize {
        shards::rows_per_shard(self.settings.micro_batch_tokens, self.training.inference_model().kernels())
    }

    pub(super) fn shards<'g>(
        &self,
        catalog: &PrefixTree,
        groups: &[&'g RolloutGroup],
        per_shard: usize,
    ) -> Vec<GroupForest<'g>> {
        let ReinforceSettings { objective, space, .. } = self.settings;
        GroupForest::build(catalog, groups, &objective, space, per_shard)
    }
}
