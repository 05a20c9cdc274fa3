//! Backward pass: probabilities are recomputed block by block, so nothing of size rows x keys is kept from the forward pass.
//!
//! Only training takes gradients, and there query rows and key rows are the same packed rows or (in the last layer) a
//! selection of them; either way a tree's queries see only keys of that tree's own rows.

use super::{
    super::{
        lanes::{add_scaled, dot},
        matrix::{Mat, MatMut, Store, matmul},
    },
    BLOCK, Heads, Segment, Visibility,
    forward::{Block, Inputs, Scratch, blocks, split_rows},
};
use rayon::prelude::*;
use std::ops::Range;

/// Key rows that a tree touches.
fn key_rows(tree: &[Segment], visibility: &Visibility) -> Range<usize> {
    let paths = tree.iter().flat_map(|segment| segment.paths.iter().flat_map(|path| &visibility.path[path.clone()]));
    let end = paths.map(|&key| key as usize + 1).chain(tree.iter().map(|segment| segment.keys.end)).max().unwrap_or(0);
    tree.iter().map(|segment| segment.keys.start).min().unwrap_or(0)..end
}

/// Where the gradients of queries, keys and values are added.
pub(crate) struct InputGradients<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
}

/// Adds the gradients of queries, keys and values.
pub(crate) fn gradients(inputs: &Inputs<'_>, d_out: &[f32], visibility: &Visibility, into: InputGradients<'_>) {
    let key_width = inputs.heads.key_width();
    let keys: Vec<Range<usize>> = visibility.trees.iter().map(|tree| key_rows(tree, visibility)).collect();
    let dq = split_rows(into.q, &visibility.trees, inputs.heads.query_width());
    let (dk, dv) = (split_keys(into.k, &keys, key_width), split_keys(into.v, &keys, key_width));
    let jobs = dq.into_par_iter().zip(dk.into_par_iter().zip(dv)).zip(visibility.trees.par_iter().zip(&keys));
    jobs.for_each_init(
        || (Scratch::default(), vec![]),
        |(scratch, d_span), ((dq, (dk, dv)), (tree, keys))| {
            let (first_row, first_key) = (Visibility::rows(tree).start, keys.start);
            let mut job = Job { inputs, visibility, d_out, first_row, first_key, dq, dk, dv, d_span };
            blocks(tree, inputs.heads, BLOCK).for_each(|block| job.block(&block, scratch));
        },
    );
}

/// The rows of a key matrix that each tree touches. Trees share no keys and follow each other.
fn split_keys<'m>(mut matrix: &'m mut [f32], keys: &[Range<usize>], width: usize) -> Vec<&'m mut [f32]> {
    let mut start = 0;
    let of_tree = |keys: &Range<usize>| {
        let (_, tail) = std::mem::take(&mut matrix).split_at_mut((keys.start - start) * width);
        let (head, tail) = tail.split_at_mut(keys.len() * width);
        (matrix, start) = (tail, keys.end);
        head
    };
    keys.iter().map(of_tree).collect()
}

/// Backward pass of one tree.
struct Job<'a> {
    inputs: &'a Inputs<'a>,
    visibility: &'a Visibility,
    d_out: &'a [f32],
    first_row: usize,
    first_key: usize,
    /// Rows of this tree only, as are `dk` and `dv`.
    dq: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
    /// Gradient of the scores over the span.
    d_span: &'a mut Vec<f32>,
}

impl Job<'_> {
    fn block(&mut self, block: &Block<'_>, scratch: &mut Scratch) {
        let Inputs { heads, .. } = *self.inputs;
        let Heads { dim, .. } = heads;
        let (query_width, key_width) = (heads.query_width(), heads.key_width());
        let (rows, keys) = (block.rows.len(), block.keys.len());
        self.inputs.probabilities(block, self.visibility, scratch);

        let q = Inputs::head_rows(self.inputs.q, &block.rows, block.query_head, dim, query_width);
        let k = Inputs::head_rows(self.inputs.k, &block.keys, block.key_head, dim, key_width);
        let v = Inputs::head_rows(self.inputs.v, &block.keys, block.key_head, dim, key_width);
        let d_out = Inputs::head_rows(self.d_out, &block.rows, block.query_head, dim, query_width);
        let key_offset = (block.keys.start - self.first_key) * key_width + block.key_head * dim;
        let query_offset = (block.rows.start - self.first_row) * query_width + block.query_head * dim;

        let span = Mat::new(&scratch.span, rows, keys);
        let dv = MatMut::strided(&mut self.dv[key_offset..], keys, dim, key_width);
        matmul(dv, Store::Accumulate, 1.0, span.t(), d_out);
        self.d_span.clear();
        self.d_span.resize(rows * keys, 0.0);
        matmul(MatMut::new(self.d_span, rows, keys), Store::Overwrite, 1.0, d_out, v.t());
        self.score_gradients(block, scratch);

        let d_span = Mat::new(self.d_span, rows, keys);
        let dq = MatMut::strided(&mut self.dq[query_offset..], rows, dim, query_width);
        matmul(dq, Store::Accumulate, heads.scale(), d_span, k);
        let dk = MatMut::strided(&mut self.dk[key_offset..], keys, dim, key_width);
        matmul(dk, Store::Accumulate, heads.scale(), d_span.t(), q);
    }

    /// Turns `d_span` from gradients of probabilities into gradients of scores, and finishes the paths.
    fn score_gradients(&mut self, block: &Block<'_>, scratch: &Scratch) {
        let heads = self.inputs.heads;
        let (query_width, key_width, dim) = (heads.query_width(), heads.key_width(), heads.dim);
        let keys = block.keys.len();
        let mut path_start = 0;
        for (i, row) in block.rows.clone().enumerate() {
            let path = block.path(row, self.visibility);
            let path_p = &scratch.path[path_start..path_start + path.len()];
            path_start += path.len();
            let d_out = &self.d_out[row * query_width + block.query_head * dim..][..dim];
            let query = self.inputs.query(row, block.query_head);
            let d_path: Vec<f32> =
                path.iter().map(|&key| dot(d_out, self.inputs.value(key as usize, block.key_head))).collect();
            let span_p = &scratch.span[i * keys..(i + 1) * keys];
            let d_span = &mut self.d_span[i * keys..(i + 1) * keys];
            let mean = dot(span_p, d_span) + dot(path_p, &d_path);
            d_span.iter_mut().zip(span_p).for_each(|(d, p)| *d = p * (*d - mean));
            let dq = &mut self.dq[(row - self.first_row) * query_width + block.query_head * dim..][..dim];
            for ((&key, &p), &d) in path.iter().zip(path_p).zip(&d_path) {
                let ds = heads.scale() * p * (d - mean);
                let local = (key as usize - self.first_key) * key_width + block.key_head * dim;
                add_scaled(dq, ds, self.inputs.key(key as usize, block.key_head));
                add_scaled(&mut self.dk[local..local + dim], ds, query);
                add_scaled(&mut self.dv[local..local + dim], p, d_out);
            }
        }
    }
}
