//! Backward pass of the head.

use super::{
    super::{
        BLOCK_ROWS,
        lanes::{add_scaled, exp},
        matrix::{Mat, MatMut, Store, matmul},
    },
    Decisions, Head, Law, Measured, WholeVocabulary,
    blocks::{self, Block, CHUNK_DECISIONS},
};
use rayon::prelude::*;

/// Size of the memory that the backward pass takes for gradients of logits: those of `decisions` over a block of a
/// vocabulary of `size`, if it was scored.
pub(crate) fn room(measured: &Measured, decisions: usize, size: usize) -> usize {
    measured.vocabulary.as_ref().map_or(0, |_| blocks::room(decisions, size))
}

/// Everything the backward pass reads.
pub(crate) struct Pass<'a> {
    pub(crate) hidden: &'a [f32],
    pub(crate) head: Head<'a>,
    pub(crate) decisions: &'a Decisions,
    pub(crate) law: Law,
    pub(crate) measured: &'a Measured,
    /// What [`measure`](super::measure_slices) left there; without it logits are computed again.
    pub(crate) kept: Option<&'a [f32]>,
    /// `[E]`
    pub(crate) edge_gradient: &'a [f32],
}

impl Pass<'_> {
    /// Adds the gradients of the hidden states and of the head; `room` is memory of the size that [`room`] says.
    pub(crate) fn add_gradients(&self, d_hidden: &mut [f32], d_head: &mut [f32], room: &mut [f32]) {
        match &self.measured.vocabulary {
            Some(vocabulary) => self.vocabulary(vocabulary, d_hidden, d_head, room),
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
        let width = self.head.width;
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
                add_scaled(d_row, d_logit, &self.head.rows[at..at + width]);
                add_scaled(&mut d_head[at..at + width], d_logit, row);
            }
        }
    }

    fn vocabulary(&self, vocabulary: &WholeVocabulary, d_hidden: &mut [f32], d_head: &mut [f32], room: &mut [f32]) {
        let (width, size) = (self.head.width, self.head.size());
        let (mut kept, mut shifts) = (self.kept, &vocabulary.shifts[..]);
        let pulls: Vec<Pull> = (0..self.decisions.len()).map(|d| self.pull(d)).collect();
        let chunks = pulls.chunks(CHUNK_DECISIONS).zip(vocabulary.lse.chunks(CHUNK_DECISIONS));
        for ((pulls, lse), (d_hidden, hidden)) in
            chunks.zip(d_hidden.chunks_mut(CHUNK_DECISIONS * width).zip(self.hidden.chunks(CHUNK_DECISIONS * width)))
        {
            let count = pulls.len();
            for block in blocks::of_vocabulary(size) {
                let tokens = block.tokens.len();
                let source = kept.as_mut().map(|kept| Kept {
                    exponentials: take_front(kept, count * tokens),
                    shifts: take_front(&mut shifts, count),
                });
                let d_logits = &mut room[..count * tokens];
                (d_logits.par_chunks_mut(BLOCK_ROWS * tokens).zip(d_hidden.par_chunks_mut(BLOCK_ROWS * width)))
                    .enumerate()
                    .for_each(|(job, (d_logits, d_hidden))| {
                        let first = job * BLOCK_ROWS;
                        let rows = first..first + d_hidden.len() / width;
                        let hidden = Mat::new(&hidden[rows.start * width..rows.end * width], rows.len(), width);
                        match &source {
                            Some(kept) => kept.gradients(&rows, tokens, pulls, lse, d_logits),
                            None => {
                                self.gradients_again(&block, hidden, &pulls[rows.clone()], &lse[rows.clone()], d_logits)
                            }
                        }
                        for (pull, row) in pulls[rows.clone()].iter().zip(d_logits.chunks_exact_mut(tokens)) {
                            self.add_one_hot(pull, &block, row);
                        }
                        let dz = Mat::new(d_logits, rows.len(), tokens);
                        let out = MatMut::new(d_hidden, rows.len(), width);
                        matmul(out, Store::Accumulate, 1.0, dz, self.head.block_rows(&block));
                    });
                let d_head = &mut d_head[block.tokens.start * width..block.tokens.end * width];
                d_head.par_chunks_mut(BLOCK_ROWS * width).enumerate().for_each(|(part, d_head)| {
                    let rows = d_head.len() / width;
                    let dz = Mat::strided(&d_logits[part * BLOCK_ROWS..], count, rows, tokens);
                    let out = MatMut::new(d_head, rows, width);
                    matmul(out, Store::Accumulate, 1.0, dz.t(), Mat::new(hidden, count, width));
                });
            }
        }
    }

    fn pull(&self, decision: usize) -> Pull {
        Pull { edges: self.edges(decision), sum: self.one_hot(decision, |_, _| {}) }
    }

    /// Rows of `- p(u) sum_e g_e / T` over a block, from the hidden states.
    fn gradients_again(&self, block: &Block, hidden: Mat<'_>, pulls: &[Pull], lse: &[f32], d_logits: &mut [f32]) {
        let (rows, tokens) = (pulls.len(), block.tokens.len());
        let logits = MatMut::new(d_logits, rows, tokens);
        matmul(logits, Store::Overwrite, 1.0 / self.law.temperature, hidden, self.head.block(block));
        for ((row, pull), lse) in d_logits.chunks_exact_mut(tokens).zip(pulls).zip(lse) {
            row.iter_mut().for_each(|logit| *logit = -pull.sum * exp(*logit - lse));
        }
    }

    /// Adds `sum_e g_e [u = token of e] / T` over a block.
    fn add_one_hot(&self, pull: &Pull, block: &Block, row: &mut [f32]) {
        for edge in pull.edges.clone() {
            let token = self.decisions.child_token[self.decisions.edges[edge].1 as usize] as usize;
            if block.tokens.contains(&token) {
                row[token - block.tokens.start] += self.edge_gradient[edge] / self.law.temperature;
            }
        }
    }
}

/// The edges of a decision and `sum_e g_e / T` over them.
struct Pull {
    edges: std::ops::Range<usize>,
    sum: f32,
}

/// What the forward pass has left of a block: `exp(z_u - shift)` for every decision and token, and the shifts.
struct Kept<'a> {
    exponentials: &'a [f32],
    shifts: &'a [f32],
}

impl Kept<'_> {
    /// As [`Pass::gradients_again`], for some rows of the block.
    fn gradients(
        &self,
        rows: &std::ops::Range<usize>,
        tokens: usize,
        pulls: &[Pull],
        lse: &[f32],
        d_logits: &mut [f32],
    ) {
        let exponentials = self.exponentials[rows.start * tokens..rows.end * tokens].chunks_exact(tokens);
        for ((row, exponentials), d) in d_logits.chunks_exact_mut(tokens).zip(exponentials).zip(rows.clone()) {
            let factor = -pulls[d].sum * exp(self.shifts[d] - lse[d]);
            row.iter_mut().zip(exponentials).for_each(|(out, exponential)| *out = factor * exponential);
        }
    }
}

fn take_front<'a>(slice: &mut &'a [f32], count: usize) -> &'a [f32] {
    let (front, rest) = slice.split_at(count);
    *slice = rest;
    front
}
