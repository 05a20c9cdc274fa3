//! Forward pass of the head.

use super::{
    super::{
        BLOCK_ROWS,
        lanes::{dot, exp, exp_moments, log_sum_exp, max},
        matrix::{Mat, MatMut, Store, matmul},
    },
    Decisions, Head, Law, Measured, WholeVocabulary,
    blocks::{self, Block, CHUNK_DECISIONS},
};
use rayon::prelude::*;
use riser_core::logprob_space::LogprobSpace;
use std::cell::RefCell;

thread_local! {
    /// Memory of a thread for the logits of a block, used again by the next one.
    static LOGITS: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Measures all decisions; `kept` is memory of the size that [`super::kept_len`] says, or nothing if no backward pass
/// follows that is to find the exponentials of the logits there.
pub(crate) fn measure(
    hidden: &[f32],
    head: Head<'_>,
    decisions: &Decisions,
    law: Law,
    kept: Option<&mut [f32]>,
) -> Measured {
    let inverse = 1.0 / law.temperature;
    let mut child_logit = vec![0.0; decisions.child_token.len()];
    let vocabulary = match law.space {
        LogprobSpace::Catalog => {
            let width = head.width;
            // Each job writes the logits of its own decisions.
            split_children(&mut child_logit, decisions).into_par_iter().enumerate().with_min_len(16).for_each(
                |(d, logits)| {
                    let row = &hidden[d * width..(d + 1) * width];
                    for (logit, &token) in logits.iter_mut().zip(&decisions.child_token[decisions.children(d)]) {
                        *logit = inverse * dot(row, &head.rows[token as usize * width..][..width]);
                    }
                },
            );
            None
        }
        LogprobSpace::Vocabulary => Some(whole_vocabulary(hidden, head, decisions, inverse, &mut child_logit, kept)),
    };
    let children_lse = (0..decisions.len()).map(|d| log_sum_exp(&child_logit[decisions.children(d)])).collect();
    Measured { child_logit, children_lse, vocabulary }
}

fn split_children<'c>(mut values: &'c mut [f32], decisions: &Decisions) -> Vec<&'c mut [f32]> {
    (0..decisions.len())
        .map(|d| {
            let (head, tail) = std::mem::take(&mut values).split_at_mut(decisions.children(d).len());
            values = tail;
            head
        })
        .collect()
}

/// What is known of a decision after some blocks of tokens.
struct Running<'a> {
    /// Largest logit.
    largest: f32,
    /// `sum_u exp(z_u - largest)`
    sum: f32,
    /// `sum_u exp(z_u - largest) z_u`
    weighted: f32,
    /// Children that are still to come, and where their logits go.
    tokens: &'a [u32],
    logits: &'a mut [f32],
}

impl Running<'_> {
    /// Takes the logits of a block and leaves `exp(z_u - largest)` in their place.
    fn take(&mut self, block: &Block, logits: &mut [f32]) {
        let here = self.tokens.partition_point(|&token| (token as usize) < block.tokens.end);
        let (tokens, later) = self.tokens.split_at(here);
        let (children, later_logits) = std::mem::take(&mut self.logits).split_at_mut(here);
        children
            .iter_mut()
            .zip(tokens)
            .for_each(|(child, &token)| *child = logits[token as usize - block.tokens.start]);
        (self.tokens, self.logits) = (later, later_logits);
        let largest = max(logits);
        if largest > self.largest {
            let shrink = exp(self.largest - largest);
            (self.largest, self.sum, self.weighted) = (largest, self.sum * shrink, self.weighted * shrink);
        }
        let (sum, weighted) = exp_moments(logits, self.largest);
        (self.sum, self.weighted) = (self.sum + sum, self.weighted + weighted);
    }

    /// (log sum exp, entropy in nats): H = lse - sum p z.
    fn finish(&self) -> (f32, f32) {
        let lse = self.largest + self.sum.ln();
        (lse, lse - self.weighted / self.sum)
    }
}

fn whole_vocabulary(
    hidden: &[f32],
    head: Head<'_>,
    decisions: &Decisions,
    inverse: f32,
    child_logit: &mut [f32],
    mut kept: Option<&mut [f32]>,
) -> WholeVocabulary {
    let (width, size) = (head.width, head.size());
    let mut running: Vec<Running<'_>> = split_children(child_logit, decisions)
        .into_iter()
        .enumerate()
        .map(|(d, logits)| {
            let tokens = &decisions.child_token[decisions.children(d)];
            Running { largest: f32::NEG_INFINITY, sum: 0.0, weighted: 0.0, tokens, logits }
        })
        .collect();
    let mut shifts = vec![];
    let mut scratch = LOGITS.take();
    for (running, hidden) in running.chunks_mut(CHUNK_DECISIONS).zip(hidden.chunks(CHUNK_DECISIONS * width)) {
        let count = running.len();
        for block in blocks::of_vocabulary(size) {
            let tokens = block.tokens.len();
            let room = match &mut kept {
                Some(kept) => {
                    let (here, later) = std::mem::take(kept).split_at_mut(count * tokens);
                    *kept = later;
                    here
                }
                None => {
                    scratch.resize(scratch.len().max(count * tokens), 0.0);
                    &mut scratch[..count * tokens]
                }
            };
            (room.par_chunks_mut(BLOCK_ROWS * tokens).zip(running.par_chunks_mut(BLOCK_ROWS)))
                .zip(hidden.par_chunks(BLOCK_ROWS * width))
                .for_each(|((room, running), hidden)| {
                    let rows = running.len();
                    let out = MatMut::new(room, rows, tokens);
                    matmul(out, Store::Overwrite, inverse, Mat::new(hidden, rows, width), head.block(&block));
                    room.chunks_exact_mut(tokens).zip(running).for_each(|(logits, row)| row.take(&block, logits));
                });
            if kept.is_some() {
                shifts.extend(running.iter().map(|row| row.largest));
            }
        }
    }
    LOGITS.set(scratch);
    let (lse, entropy) = running.iter().map(Running::finish).unzip();
    WholeVocabulary { lse, entropy, shifts }
}
