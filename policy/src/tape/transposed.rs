//! Transposed weights for the forward pass: the matrix library packs a weight for every product that it meets in the other
//! order, which costs a third of the product itself.

use crate::{
    kernels::{score, storage::with_slices},
    model::Model,
    operations::Weight,
};
use candle_core::Result;
use rayon::prelude::*;
use riser_core::logprob_space::LogprobSpace;
use std::collections::BTreeMap;

/// Rows and columns that are moved together, so that both sides stay in the cache.
const TILE: usize = 16;

/// The weights of a model's projections and of its head.
#[derive(Debug, Default)]
pub(crate) struct Transposed {
    /// `[inputs, outputs]`, by their place among the parameters.
    projections: BTreeMap<usize, Vec<f32>>,
    /// By blocks, as [`Head::transposed`](score::Head) wants them; empty where the whole vocabulary is not scored.
    head: Vec<f32>,
}

impl Transposed {
    /// Transposes the weights as they are now, into the memory of those that were there before.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub(crate) fn refresh(&mut self, model: &Model, space: LogprobSpace) -> Result<()> {
        let weights = model.projections();
        let mut before = std::mem::take(&mut self.projections);
        let mut pairs: Vec<(&Weight, Vec<f32>)> =
            weights.into_iter().map(|weight| (weight, before.remove(&weight.index).unwrap_or_default())).collect();
        pairs.par_iter_mut().try_for_each(|(weight, memory)| {
            let (outputs, inputs) = weight.tensor.dims2()?;
            memory.resize(inputs * outputs, 0.0);
            with_slices([&weight.tensor], |[weight]| {
                transpose(weight, outputs, inputs, memory);
                Ok(())
            })
        })?;
        self.projections = pairs.into_iter().map(|(weight, memory)| (weight.index, memory)).collect();
        if space == LogprobSpace::Vocabulary {
            let width = model.head().dim(1)?;
            with_slices([model.head()], |[head]| {
                transpose_blocks(head, width, &mut self.head);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The blocks of the head, if they are there.
    pub(crate) fn head(&self) -> Option<&[f32]> {
        (!self.head.is_empty()).then_some(&*self.head)
    }

    /// The transpose of a weight; `None` if the model has none of that place.
    pub(crate) fn get(&self, weight: &Weight) -> Option<&[f32]> {
        self.projections.get(&weight.index).map(Vec::as_slice)
    }
}

/// Writes the transposes of a head's blocks, one after the other.
pub(crate) fn transpose_blocks(head: &[f32], width: usize, to: &mut Vec<f32>) {
    to.resize(head.len(), 0.0);
    let mut pairs = vec![];
    let (mut from, mut to) = (head, &mut to[..]);
    for block in score::of_vocabulary(head.len() / width) {
        let (here, later) = from.split_at(block.len() * width);
        let (there, further) = std::mem::take(&mut to).split_at_mut(here.len());
        pairs.push((here, there));
        (from, to) = (later, further);
    }
    pairs.into_par_iter().for_each(|(from, to)| transpose(from, from.len() / width, width, to));
}

/// Writes the transpose of a `rows x cols` matrix.
fn transpose(from: &[f32], rows: usize, cols: usize, to: &mut [f32]) {
    for row in (0..rows).step_by(TILE) {
        for col in (0..cols).step_by(TILE) {
            for c in col..(col + TILE).min(cols) {
                for r in row..(row + TILE).min(rows) {
                    to[c * rows + r] = from[r * cols + c];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn every_entry_changes_its_row_for_its_column() {
        let (rows, cols) = (37, 18);
        let from: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let mut to = vec![0.0; rows * cols];
        transpose(&from, rows, cols, &mut to);
        assert!((0..rows).all(|r| (0..cols).all(|c| to[c * rows + r] == from[r * cols + c])));
    }
}
