//! Forward pass: one job per tree, blocks of rows within it.

use super::{
    super::{
        lanes::{self, add_scaled, dot},
        matrix::{Mat, MatMut, Store, matmul},
    },
    Heads, Segment, Visibility,
};
use rayon::prelude::*;
use std::ops::Range;

/// The operands as plain slices.
pub(crate) struct Inputs<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) heads: Heads,
}

/// A block of rows of one segment under one query head.
pub(super) struct Block<'a> {
    pub(super) segment: &'a Segment,
    /// Query rows.
    pub(super) rows: Range<usize>,
    /// Key rows that any row of the block sees in the span.
    pub(super) keys: Range<usize>,
    pub(super) query_head: usize,
    pub(super) key_head: usize,
}

impl Block<'_> {
    /// How many keys of the span query row `row` sees.
    pub(super) fn span_len(&self, row: usize) -> usize {
        let behind = if self.segment.is_causal { self.segment.rows.end - 1 - row } else { 0 };
        self.segment.keys.len() - behind
    }

    pub(super) fn path<'v>(&self, row: usize, visibility: &'v Visibility) -> &'v [u32] {
        &visibility.path[self.segment.paths[row - self.segment.rows.start].clone()]
    }
}

/// Visits the blocks of a tree in a fixed order.
pub(super) fn blocks(tree: &[Segment], heads: Heads, block_rows: usize) -> impl Iterator<Item = Block<'_>> {
    tree.iter().flat_map(move |segment| {
        segment.rows.clone().step_by(block_rows).flat_map(move |start| {
            let rows = start..(start + block_rows).min(segment.rows.end);
            let unseen = if segment.is_causal { segment.rows.end - rows.end } else { 0 };
            let keys = segment.keys.start..segment.keys.end - unseen;
            (0..heads.queries).map(move |query_head| Block {
                segment,
                rows: rows.clone(),
                keys: keys.clone(),
                query_head,
                key_head: query_head / heads.shared(),
            })
        })
    })
}

/// Reused buffers of one job.
#[derive(Default)]
pub(super) struct Scratch {
    /// Probabilities over the span `[rows, keys]`, zero where a causal row does not see.
    pub(super) span: Vec<f32>,
    /// Probabilities over the paths of the block's rows, one after the other.
    pub(super) path: Vec<f32>,
}

impl Inputs<'_> {
    pub(super) fn key(&self, row: usize, head: usize) -> &[f32] {
        &self.k[row * self.heads.key_width() + head * self.heads.dim..][..self.heads.dim]
    }

    pub(super) fn value(&self, row: usize, head: usize) -> &[f32] {
        &self.v[row * self.heads.key_width() + head * self.heads.dim..][..self.heads.dim]
    }

    pub(super) fn query(&self, row: usize, head: usize) -> &[f32] {
        &self.q[row * self.heads.query_width() + head * self.heads.dim..][..self.heads.dim]
    }

    /// The rows of one head as a matrix inside wider rows.
    pub(super) fn head_rows<'m>(
        matrix: &'m [f32],
        rows: &Range<usize>,
        head: usize,
        dim: usize,
        width: usize,
    ) -> Mat<'m> {
        // An empty range may start behind the last row.
        let start = if rows.is_empty() { 0 } else { rows.start * width + head * dim };
        Mat::strided(&matrix[start..], rows.len(), dim, width)
    }

    /// Fills `scratch` with the attention probabilities of the block.
    pub(super) fn probabilities(&self, block: &Block<'_>, visibility: &Visibility, scratch: &mut Scratch) {
        let Heads { dim, .. } = self.heads;
        let (rows, keys) = (block.rows.len(), block.keys.len());
        scratch.span.clear();
        scratch.span.resize(rows * keys, 0.0);
        let q = Self::head_rows(self.q, &block.rows, block.query_head, dim, self.heads.query_width());
        let k = Self::head_rows(self.k, &block.keys, block.key_head, dim, self.heads.key_width());
        matmul(MatMut::new(&mut scratch.span, rows, keys), Store::Overwrite, self.heads.scale(), q, k.t());
        scratch.path.clear();
        for (i, row) in block.rows.clone().enumerate() {
            let (seen, unseen) = scratch.span[i * keys..(i + 1) * keys].split_at_mut(block.span_len(row));
            unseen.fill(0.0);
            let start = scratch.path.len();
            let query = self.query(row, block.query_head);
            scratch.path.extend(
                block
                    .path(row, visibility)
                    .iter()
                    .map(|&key| self.heads.scale() * dot(query, self.key(key as usize, block.key_head))),
            );
            softmax(seen, &mut scratch.path[start..]);
        }
    }
}

/// Softmax over two pieces as if they were one.
fn softmax(span: &mut [f32], path: &mut [f32]) {
    let largest = lanes::max(span).max(lanes::max(path));
    let inverse = 1.0 / (lanes::exp_shifted(span, largest) + lanes::exp_shifted(path, largest));
    span.iter_mut().for_each(|score| *score *= inverse);
    path.iter_mut().for_each(|score| *score *= inverse);
}

/// Splits the rows of a matrix at the trees' boundaries.
pub(super) fn split_rows<'m>(mut matrix: &'m mut [f32], trees: &[Vec<Segment>], width: usize) -> Vec<&'m mut [f32]> {
    trees
        .iter()
        .map(|tree| {
            let (head, tail) = std::mem::take(&mut matrix).split_at_mut(Visibility::rows(tree).len() * width);
            matrix = tail;
            head
        })
        .collect()
}

/// Writes the attended values, `[rows, query heads * D]`.
pub(crate) fn attend(inputs: &Inputs<'_>, visibility: &Visibility, block_rows: usize, out: &mut [f32]) {
    let Heads { dim, .. } = inputs.heads;
    let width = inputs.heads.query_width();
    let parts = split_rows(out, &visibility.trees, width);
    parts.into_par_iter().zip(&visibility.trees).for_each_init(Scratch::default, |scratch, (out, tree)| {
        let first = Visibility::rows(tree).start;
        for block in blocks(tree, inputs.heads, block_rows) {
            inputs.probabilities(&block, visibility, scratch);
            let offset = (block.rows.start - first) * width + block.query_head * dim;
            let (rows, keys) = (block.rows.len(), block.keys.len());
            let v = Inputs::head_rows(inputs.v, &block.keys, block.key_head, dim, inputs.heads.key_width());
            let span = Mat::new(&scratch.span, rows, keys);
            matmul(MatMut::strided(&mut out[offset..], rows, dim, width), Store::Overwrite, 1.0, span, v);
            let mut weights = scratch.path.iter();
            for (i, row) in block.rows.clone().enumerate() {
                let out = &mut out[offset + i * width..][..dim];
                for (&key, &weight) in block.path(row, visibility).iter().zip(&mut weights) {
                    add_scaled(out, weight, inputs.value(key as usize, block.key_head));
                }
            }
        }
    });
}
