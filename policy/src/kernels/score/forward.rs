//! Forward pass of the head.

use super::{
    super::{
        BLOCK_ROWS,
        lanes::{dot, expectation, log_sum_exp},
        matrix::{Mat, MatMut, Store, matmul},
    },
    Decisions, Law, Measured, WholeVocabulary,
};
use rayon::prelude::*;
use riser_core::logprob_space::LogprobSpace;
use std::cell::RefCell;

/// Logits held at a time by one job.
const CHUNK_LOGITS: usize = 4 << 20;

thread_local! {
    /// Memory of a thread for the logits of a job, used again by the next one.
    static LOGITS: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Decisions per job when every logit is computed.
pub(super) fn vocabulary_rows(vocabulary: usize) -> usize {
    (CHUNK_LOGITS / vocabulary).clamp(1, BLOCK_ROWS)
}

pub(crate) fn measure(hidden: &[f32], head: &[f32], width: usize, decisions: &Decisions, law: Law) -> Measured {
    let inverse = 1.0 / law.temperature;
    let mut child_logit = vec![0.0; decisions.child_token.len()];
    let vocabulary = match law.space {
        LogprobSpace::Catalog => {
            // Each job writes the logits of its own decisions.
            split_children(&mut child_logit, decisions).into_par_iter().enumerate().with_min_len(16).for_each(
                |(d, logits)| {
                    let row = &hidden[d * width..(d + 1) * width];
                    for (logit, &token) in logits.iter_mut().zip(&decisions.child_token[decisions.children(d)]) {
                        *logit = inverse * dot(row, &head[token as usize * width..][..width]);
                    }
                },
            );
            None
        }
        LogprobSpace::Vocabulary => Some(whole_vocabulary(hidden, head, width, decisions, inverse, &mut child_logit)),
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

fn whole_vocabulary(
    hidden: &[f32],
    head: &[f32],
    width: usize,
    decisions: &Decisions,
    inverse: f32,
    child_logit: &mut [f32],
) -> WholeVocabulary {
    let size = head.len() / width;
    let rows = vocabulary_rows(size);
    let mut children = split_children(child_logit, decisions);
    let per_chunk: Vec<Vec<(f32, f32)>> = hidden
        .par_chunks(rows * width)
        .zip(children.par_chunks_mut(rows))
        .enumerate()
        .map(|(chunk, (hidden, children))| {
            let count = hidden.len() / width;
            let mut logits = LOGITS.take();
            logits.resize(logits.len().max(count * size), 0.0);
            let all = &mut logits[..count * size];
            let (x, w) = (Mat::new(hidden, count, width), Mat::new(head, size, width));
            matmul(MatMut::new(all, count, size), Store::Overwrite, inverse, x, w.t());
            let of_row = |(i, (logits, children)): (usize, (&[f32], &mut &mut [f32]))| {
                let tokens = &decisions.child_token[decisions.children(chunk * rows + i)];
                children.iter_mut().zip(tokens).for_each(|(child, &token)| *child = logits[token as usize]);
                entropy(logits)
            };
            let of_rows = all.chunks_exact(size).zip(children).enumerate().map(of_row).collect();
            LOGITS.set(logits);
            of_rows
        })
        .collect();
    let (lse, entropy) = per_chunk.into_iter().flatten().unzip();
    WholeVocabulary { lse, entropy }
}

/// (log sum exp, entropy in nats) of one row: H = lse - sum p z.
fn entropy(logits: &[f32]) -> (f32, f32) {
    let lse = log_sum_exp(logits);
    (lse, lse - expectation(logits, lse))
}
