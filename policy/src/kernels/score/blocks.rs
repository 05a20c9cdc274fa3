//! Blocks of the vocabulary: the logits of a few hundred decisions over one of them, and the weights that make them, stay
//! in a core's cache from the product to the gradient.

use super::super::matrix::Mat;
use std::ops::Range;

/// Tokens of a block.
const BLOCK_TOKENS: usize = 256;

/// Decisions whose logits over a block exist at a time.
pub(super) const CHUNK_DECISIONS: usize = 1024;

/// A run of tokens.
pub(crate) struct Block {
    pub(super) tokens: Range<usize>,
}

impl Block {
    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }
}

/// The blocks of a vocabulary, in order.
pub(crate) fn of_vocabulary(size: usize) -> impl Iterator<Item = Block> {
    (0..size).step_by(BLOCK_TOKENS).map(move |start| Block { tokens: start..(start + BLOCK_TOKENS).min(size) })
}

/// Numbers that logits of `decisions` over one block take at most.
pub(crate) fn room(decisions: usize, size: usize) -> usize {
    decisions.min(CHUNK_DECISIONS) * BLOCK_TOKENS.min(size)
}

/// The output head `[V, H]`.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) width: usize,
    /// Each block's rows transposed `[H, tokens]`, one block after the other; without it the matrix library turns them
    /// around for every product.
    pub(crate) transposed: Option<&'a [f32]>,
}

impl<'a> Head<'a> {
    /// Tokens of the vocabulary.
    pub(super) fn size(self) -> usize {
        self.rows.len() / self.width
    }

    /// The rows of a block `[tokens, H]`.
    pub(super) fn block_rows(self, block: &Block) -> Mat<'a> {
        let Range { start, end } = block.tokens;
        Mat::new(&self.rows[start * self.width..end * self.width], end - start, self.width)
    }

    /// The rows of a block, transposed `[H, tokens]`.
    pub(super) fn block(self, block: &Block) -> Mat<'a> {
        let Range { start, end } = block.tokens;
        match self.transposed {
            Some(transposed) => Mat::new(&transposed[start * self.width..end * self.width], self.width, end - start),
            None => self.block_rows(block).t(),
        }
    }
}
