//! Transposed weights for the forward pass: the matrix library packs a weight for every product that it meets in the other
//! order, which costs a third of the product itself.

use crate::{kernels::storage::with_slices, model::Model, operations::Weight};
use candle_core::Result;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Rows and columns that are moved together, so that both sides stay in the cache.
const TILE: usize = 16;

/// The weights of a model's projections, `[inputs, outputs]`, by their place among the parameters.
#[derive(Debug, Default)]
pub(crate) struct Transposed(BTreeMap<usize, Vec<f32>>);

impl Transposed {
    /// Transposes the weights as they are now, into the memory of those that were there before.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub(crate) fn refresh(&mut self, model: &Model) -> Result<()> {
        let weights = model.projections();
        let mut before = std::mem::take(&mut self.0);
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
        self.0 = pairs.into_iter().map(|(weight, memory)| (weight.index, memory)).collect();
        Ok(())
    }

    /// The transpose of a weight; `None` if the model has none of that place.
    pub(crate) fn get(&self, weight: &Weight) -> Option<&[f32]> {
        self.0.get(&weight.index).map(Vec::as_slice)
    }
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
