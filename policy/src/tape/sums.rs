//! Sums of gradients, one block of memory per parameter that is used for every step.

use crate::kernels::matrix::Store;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Elements per job.
const BLOCK: usize = 1 << 14;

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

    /// The sum over all of `sums`, in their order, of one parameter; `None` if one of them has not begun.
    pub(crate) fn total(sums: &[Self], index: usize, like: &Tensor) -> Result<Option<Tensor>> {
        if sums.is_empty() || !sums.iter().all(|it| it.is_begun[index]) {
            return Ok(None);
        }
        let mut total = vec![0.0; sums[0].of_parameter[index].len()];
        total.par_chunks_mut(BLOCK).enumerate().for_each(|(block, total)| {
            let range = block * BLOCK..block * BLOCK + total.len();
            total.copy_from_slice(&sums[0].of_parameter[index][range.clone()]);
            for further in &sums[1..] {
                total.iter_mut().zip(&further.of_parameter[index][range.clone()]).for_each(|(sum, term)| *sum += term);
            }
        });
        Tensor::from_vec(total, like.shape(), like.device()).map(Some)
    }
}
