//! Memory of a training step, counted from the shape and the forests before anything is computed.
//!
//! ```text
//! P parameters, H hidden, G width of keys, I feed-forward, L layers, V vocabulary; a forest has T rows, K of them decisions
//! fixed  = 4 P (weights 1 + moments 2 + gradients 1 + their sums, up to 8 + transposed weights 1 + reference policy 1
//!               + a policy that is published, twice 1)
//! tape   = 4 (T H + (L - 1) T (4 H + 2 G + 2 I) + 2 T G + K (8 H + 2 I)             what the forward pass leaves
//!             + T max(4 H + 2 G, H + 2 I) + min(K, 1024) 256                       what the backward pass has at once
//!             + K V where there is room to keep the exponentials of logits)
//! ```
//! A layer leaves queries, keys, values, attended values, the state twice, gate and up; the last layer does so for decisions
//! alone, which it selects twice. Buffers may be an eighth larger than what is in them. Left out are tables that do not grow
//! with the width: who sees whom, rotations, children, and what attention needs for one block of rows.

use crate::{forest::Forest, kernels::score, shape::Shape, shards};
use riser_core::logprob_space::LogprobSpace;
use std::ops::Range;

/// Bytes of an f32.
const NUMBER: usize = 4;

/// Rows and decisions that a pass is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    rows: usize,
    decisions: usize,
}

impl Extent {
    pub(crate) fn of(forest: &Forest) -> Self {
        Self { rows: forest.num_rows(), decisions: forest.decisions.len() }
    }
}

/// Numbers on a tape that passes a forest forward and backward, at most.
pub(crate) fn tape_numbers(shape: &Shape, space: LogprobSpace, extent: Extent, keeps_exponentials: bool) -> usize {
    let Extent { rows: t, decisions: k } = extent;
    let (h, i, layers) = (shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers);
    let g = shape.num_key_value_heads * shape.head_dim();
    let forward = t * h + (layers - 1) * t * (4 * h + 2 * g + 2 * i) + 2 * t * g + k * (8 * h + 2 * i);
    let room = if space == LogprobSpace::Vocabulary { score::room_numbers(k, shape.vocab_size) } else { 0 };
    let backward = t * (4 * h + 2 * g).max(h + 2 * i) + room;
    let kept = if keeps_exponentials { score::kept_len(space, k, shape.vocab_size) } else { 0 };
    let all = forward + backward + kept;
    all + all / 8
}

/// Bytes that are there whatever the batch.
pub(crate) fn fixed_bytes(num_scalars: usize, has_reference: bool) -> usize {
    let lanes = shards::most_lanes(num_scalars);
    NUMBER * num_scalars * (1 + 2 + 1 + lanes + 1 + usize::from(has_reference) + 2)
}

/// What a step takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Bytes of parameters, optimizer, gradients, reference and published policies.
    pub fixed_bytes: usize,
    /// Most bytes of the tapes of one pass, with the one that scores for the reference beside them. Without a limit the
    /// reference scores on as many tapes as there are threads.
    pub tape_bytes: usize,
    /// Passes of a step.
    pub passes: usize,
}

/// A batch that does not fit into the memory that training may take.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "training takes {fixed} MiB for the model and its optimizer and {tree} MiB for one prompt of {rows} forest rows, the \
     limit is {limit} MiB"
)]
pub struct MemoryError {
    /// MiB whatever the batch.
    pub fixed: usize,
    /// MiB of the largest tree.
    pub tree: usize,
    /// Its rows.
    pub rows: usize,
    /// MiB in all.
    pub limit: usize,
}

/// The memory that training may take, less what is there whatever the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) limit: usize,
    pub(crate) fixed: usize,
    /// Whether a reference policy scores beside a pass that waits.
    pub(crate) has_reference: bool,
}

impl Allowance {
    /// Cuts shards, which take `bytes` each, into passes that fit.
    ///
    /// # Errors
    /// The place of a shard that does not fit.
    pub(crate) fn cut(self, bytes: &[usize]) -> Result<Vec<Range<usize>>, usize> {
        let Some((largest, &most)) = bytes.iter().enumerate().max_by_key(|&(_, bytes)| bytes) else {
            return Ok(vec![]);
        };
        let room = self.room(bytes);
        if most > room {
            return Err(largest);
        }
        // Runs are less than one shard longer than the length they are cut to.
        Ok(shards::cut(bytes, (room - most).max(1)))
    }

    /// Whether these passes over shards of `bytes` each fit.
    pub(crate) fn fits(self, bytes: &[usize], passes: &[Range<usize>]) -> bool {
        let room = self.room(bytes);
        passes.iter().all(|pass| bytes[pass.clone()].iter().sum::<usize>() <= room)
    }

    /// Bytes for one pass over some of these shards, when the reference scores any of them beside it.
    pub(crate) fn room(self, bytes: &[usize]) -> usize {
        let most = bytes.iter().copied().max().unwrap_or(0);
        self.limit.saturating_sub(self.fixed + if self.has_reference { most } else { 0 })
    }

    /// Says that a tree of so many rows and bytes does not fit.
    pub(crate) fn error(self, rows: usize, bytes: usize) -> MemoryError {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        let tree = if self.has_reference { 2 * bytes } else { bytes };
        MemoryError { fixed: mib(self.fixed), tree: mib(tree), rows, limit: mib(self.limit) }
    }
}

/// Bytes of so many numbers.
pub(crate) fn bytes(numbers: usize) -> usize {
    NUMBER * numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_pass_takes_more_than_there_is_and_what_does_not_fit_is_named(
            bytes in prop::collection::vec(1_usize..500, 1..40), limit in 0_usize..2000, has_reference in prop::bool::ANY,
        ) {
            let allowance = Allowance { limit, fixed: 100, has_reference };
            let most = bytes.iter().copied().max().unwrap_or(0);
            let beside = if has_reference { most } else { 0 };
            match allowance.cut(&bytes) {
                Ok(passes) => {
                    let covered: Vec<usize> = passes.iter().cloned().flatten().collect();
                    prop_assert_eq!(covered, (0..bytes.len()).collect::<Vec<_>>());
                    prop_assert!(allowance.fits(&bytes, &passes));
                    for pass in passes {
                        prop_assert!(bytes[pass].iter().sum::<usize>() + 100 + beside <= limit);
                    }
                }
                Err(place) => prop_assert!(bytes[place] == most && most + 100 + beside > limit),
            }
        }
    }
}
