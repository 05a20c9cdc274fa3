//! Backward pass of the head.

use super::{
    super::{
        BLOCK_ROWS,
        lanes::{add_scaled, exp},
        matrix::{Mat, MatMut, Store, matmul},
    },
    Decisions, Law, Measured,
    forward::vocabulary_rows,
};
use rayon::prelude::*;

/// Logit gradients held at a time in vocabulary space (64 MiB).
const CHUNK_GRADIENTS: usize = 16 << 20;

/// Decisions per chunk: a multiple of a job's, so that jobs never straddle two chunks.
fn chunk_rows(size: usize) -> usize {
    let rows = vocabulary_rows(size);
    (CHUNK_GRADIENTS / size / rows).max(1) * rows
}

/// Size of the memory that the gradients of logits take: those of `decisions` over a vocabulary of `size`, if it was scored.
pub(crate) fn room(measured: &Measured, decisions: usize, size: usize) -> usize {
    measured.vocabulary.as_ref().map_or(0, |_| chunk_rows(size).min(decisions) * size)
}

/// Everything the backward pass reads.
pub(crate) struct Pass<'a> {
    pub(crate) hidden: &'a [f32],
    pub(crate) head: &'a [f32],
    pub(crate) width: usize,
    pub(crate) decisions: &'a Decisions,
    pub(crate) law: Law,
    pub(crate) measured: &'a Measured,
    /// `[E]`
    pub(crate) edge_gradient: &'a [f32],
}

impl Pass<'_> {
    /// Adds the gradients of the hidden states and of the head; `room` is memory of the size that [`room`] says.
    pub(crate) fn add_gradients(&self, d_hidden: &mut [f32], d_head: &mut [f32], room: &mut [f32]) {
        match &self.measured.vocabulary {
            Some(vocabulary) => self.vocabulary(&vocabulary.lse, d_hidden, d_head, room),
            None => self.catalog(d_hidden, d_head),
        }
    }

    fn edges(&self, decision: usize) -> std::ops::Range<usize> {
        let edges = &self.decisions.edges;
        edges.partition_point(|&(d, _)| (d as usize) < decision)
            ..edges.partition_point(|&(d, _)| d as usize <= decision)
    }

    /// Adds `sum_e g_e ([u = token of e] - p(u)) / T` for one decision, through `logit(index of child)`.
    fn one_hot(&self, decision: usize, mut add: impl FnMut(usize, f32)) -> f32 {
        let mut sum = 0.0;
        for edge in self.edges(decision) {
            let gradient = self.edge_gradient[edge] / self.law.temperature;
            sum += gradient;
            add(self.decisions.edges[edge].1 as usize, gradient);
        }
        sum
    }

    fn catalog(&self, d_hidden: &mut [f32], d_head: &mut [f32]) {
        let width = self.width;
        for (d, d_row) in d_hidden.chunks_exact_mut(width).enumerate() {
            let children = self.decisions.children(d);
            let mut d_logit = vec![0.0; children.len()];
            let sum = self.one_hot(d, |child, gradient| d_logit[child - children.start] += gradient);
            if self.edges(d).is_empty() {
                continue;
            }
            let row = &self.hidden[d * width..(d + 1) * width];
            for (index, d_logit) in children.zip(d_logit) {
                let p = exp(self.measured.child_logit[index] - self.measured.children_lse[d]);
                let d_logit = d_logit - sum * p;
                let at = self.decisions.child_token[index] as usize * width;
                add_scaled(d_row, d_logit, &self.head[at..at + width]);
                add_scaled(&mut d_head[at..at + width], d_logit, row);
            }
        }
    }

    fn vocabulary(&self, lse: &[f32], d_hidden: &mut [f32], d_head: &mut [f32], room: &mut [f32]) {
        let (width, size) = (self.width, self.head.len() / self.width);
        let (rows, chunk_rows) = (vocabulary_rows(size), chunk_rows(size));
        for start in (0..self.decisions.len()).step_by(chunk_rows) {
            let count = chunk_rows.min(self.decisions.len() - start);
            let hidden = &self.hidden[start * width..(start + count) * width];
            let d_logits = &mut room[..count * size];
            d_logits
                .par_chunks_mut(rows * size)
                .zip(d_hidden[start * width..(start + count) * width].par_chunks_mut(rows * width))
                .zip(hidden.par_chunks(rows * width))
                .enumerate()
                .for_each(|(job, ((d_logits, d_hidden), hidden))| {
                    let count = hidden.len() / width;
                    let (x, w) = (Mat::new(hidden, count, width), Mat::new(self.head, size, width));
                    let logits = MatMut::new(d_logits, count, size);
                    matmul(logits, Store::Overwrite, 1.0 / self.law.temperature, x, w.t());
                    for (i, row) in d_logits.chunks_exact_mut(size).enumerate() {
                        self.logit_gradients(start + job * rows + i, lse, row);
                    }
                    let dz = Mat::new(d_logits, count, size);
                    matmul(MatMut::new(d_hidden, count, width), Store::Accumulate, 1.0, dz, w);
                });
            d_head.par_chunks_mut(BLOCK_ROWS * width).enumerate().for_each(|(block, d_head)| {
                let tokens = d_head.len() / width;
                let dz = Mat::strided(&d_logits[block * BLOCK_ROWS..], count, tokens, size);
                matmul(
                    MatMut::new(d_head, tokens, width),
                    Store::Accumulate,
                    1.0,
                    dz.t(),
                    Mat::new(hidden, count, width),
                );
            });
        }
    }

    /// Turns a row of logits into the row of their gradients.
    fn logit_gradients(&self, decision: usize, lse: &[f32], row: &mut [f32]) {
        let sum: f32 = self.one_hot(decision, |_, _| {});
        row.iter_mut().for_each(|logit| *logit = -sum * exp(*logit - lse[decision]));
        self.one_hot(decision, |child, gradient| row[self.decisions.child_token[child] as usize] += gradient);
    }
}
