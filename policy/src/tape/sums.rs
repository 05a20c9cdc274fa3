//! Sums of gradients, one block of memory per parameter that is used for every step.

use crate::kernels::matrix::Store;
use rayon::prelude::*;

/// Elements per job.
const BLOCK: usize = 1 << 14;

/// Elements that are summed over all lanes before the next ones, in the nearest cache.
const PIECE: usize = 1 << 10;

/// Gradients of all parameters, summed over the shards that one thread passes one after another.
#[derive(Debug)]
pub(crate) struct Sums {
    /// By the parameter's place in name order.
    of_parameter: Vec<Vec<f32>>,
    /// Whether anything was added; what nothing was added to is arbitrary.
    is_begun: Vec<bool>,
}

impl Sums {
    /// For parameters of these sizes.
    pub(crate) fn new(sizes: impl IntoIterator<Item = usize>) -> Self {
        let of_parameter: Vec<Vec<f32>> = sizes.into_iter().map(|size| vec![0.0; size]).collect();
        Self { is_begun: vec![false; of_parameter.len()], of_parameter }
    }

    /// Starts again at zero.
    pub(crate) fn reset(&mut self) {
        self.is_begun.fill(false);
    }

    /// The sum of a parameter, and whether the next term replaces what is there or is added.
    pub(crate) fn product(&mut self, index: usize) -> (&mut [f32], Store) {
        let into =
            if std::mem::replace(&mut self.is_begun[index], true) { Store::Accumulate } else { Store::Overwrite };
        (&mut self.of_parameter[index], into)
    }

    /// The sum of a parameter, for terms that can only be added.
    pub(crate) fn term(&mut self, index: usize) -> &mut [f32] {
        let (sum, into) = self.product(index);
        if into == Store::Overwrite {
            sum.fill(0.0);
        }
        sum
    }

    /// Whether every one of `sums` has a sum of this parameter.
    pub(crate) fn have(sums: &[Self], index: usize) -> bool {
        !sums.is_empty() && sums.iter().all(|it| it.is_begun[index])
    }

    /// Writes or adds the sum over all of `sums`, in their order, of one parameter.
    pub(crate) fn total(sums: &[Self], index: usize, total: &mut [f32], into: Store) {
        total.par_chunks_mut(BLOCK).enumerate().for_each(|(block, total)| {
            let mut piece = [0.0; PIECE];
            for (place, total) in total.chunks_mut(PIECE).enumerate() {
                let range = block * BLOCK + place * PIECE..block * BLOCK + place * PIECE + total.len();
                let piece = &mut piece[..total.len()];
                piece.copy_from_slice(&sums[0].of_parameter[index][range.clone()]);
                for further in &sums[1..] {
                    let terms = &further.of_parameter[index][range.clone()];
                    piece.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                }
                match into {
                    Store::Overwrite => total.copy_from_slice(piece),
                    Store::Accumulate => total.iter_mut().zip(&*piece).for_each(|(sum, term)| *sum += term),
                }
            }
        });
    }
}
