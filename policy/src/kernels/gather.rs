//! Rows picked from a matrix, such as the embeddings of tokens.

use super::storage::with_slices;
use candle_core::{Result, Tensor};

/// Writes the rows of `from` that `rows` names, each `width` numbers, one after the other.
pub(crate) fn gather(from: &[f32], rows: &[u32], width: usize, to: &mut [f32]) {
    for (to, &row) in to.chunks_exact_mut(width).zip(rows) {
        to.copy_from_slice(&from[row as usize * width..][..width]);
    }
}

/// Writes the rows of the `[V, H]` table of embeddings for `tokens`.
///
/// # Errors
/// Names a token outside the vocabulary.
pub(crate) fn embed(table: &Tensor, tokens: &[u32], to: &mut [f32]) -> Result<()> {
    let (size, width) = table.dims2()?;
    if let Some(token) = tokens.iter().find(|&&token| token as usize >= size) {
        candle_core::bail!("token {token} is outside the vocabulary of {size}");
    }
    with_slices([table], |[table]| {
        gather(table, tokens, width, to);
        Ok(())
    })
}
