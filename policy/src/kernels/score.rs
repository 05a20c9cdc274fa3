//! The output head where it is needed: log-probabilities of catalog edges, in either space.
//!
//! A **decision** is a forest row at which the catalog offers children. With logits z_v = w_v . h / T:
//!
//! ```text
//! vocabulary:  log p(v) = z_v - log sum_{u in V} exp z_u            (method 0, finding 2: the paper's reading)
//! catalog:     log p(v) = z_v - log sum_{u in children} exp z_u     (what constrained sampling draws from)
//! dz_u = sum_e g_e ([u = token of e] - p(u))
//! ```
//! In catalog space only the children's rows of the head are touched. In vocabulary space a pass goes over the vocabulary
//! block by block with running maxima and sums (online softmax, Milakov and Gimelshein 2018), one exponential per logit;
//! the exponentials are kept for the backward pass where they fit ([`kept_len`], [`KEPT_NUMBERS`]), else the logits of a
//! block are computed again there.

mod backward;
mod blocks;
mod composed;
mod forward;

pub(crate) use backward::{Pass, room};
pub(crate) use blocks::{Head, of_vocabulary, room as room_numbers};
pub(crate) use forward::measure as measure_slices;

use super::{Kernels, lanes};
use candle_core::{Result, Tensor};
use riser_core::logprob_space::LogprobSpace;

/// Decisions of a forest, in row order: decision `d` belongs to row `d` of the scored hidden states.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions {
    /// Children of decision `d` are `child_token[first_child[d] .. first_child[d + 1]]`, `[D + 1]`.
    pub(crate) first_child: Vec<usize>,
    /// Legal tokens, ascending within a decision `[C]`.
    pub(crate) child_token: Vec<u32>,
    /// Edges whose log-probability is asked for, as (decision, index into `child_token`), ascending by decision `[E]`.
    pub(crate) edges: Vec<(u32, u32)>,
}

impl Decisions {
    /// No decision yet.
    pub(crate) fn new() -> Self {
        Self { first_child: vec![0], ..Self::default() }
    }

    /// Adds a decision with its legal tokens; returns its index.
    pub(crate) fn push(&mut self, tokens: &[u32]) -> usize {
        self.child_token.extend_from_slice(tokens);
        self.first_child.push(self.child_token.len());
        self.len() - 1
    }

    /// The first `count` decisions, without their edges.
    pub(crate) fn first(&self, count: usize) -> Self {
        let count = count.min(self.len());
        let child_token = self.child_token[..self.first_child[count]].to_vec();
        Self { first_child: self.first_child[..=count].to_vec(), child_token, edges: vec![] }
    }

    /// Number of decisions.
    pub(crate) fn len(&self) -> usize {
        self.first_child.len() - 1
    }

    /// Children of a decision, as a range of `child_token`.
    pub(crate) fn children(&self, decision: usize) -> std::ops::Range<usize> {
        self.first_child[decision]..self.first_child[decision + 1]
    }
}

/// What the head says about every decision: enough for both spaces, for sampling and for the entropies of method 1.8.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Logit of every child, divided by the temperature `[C]`.
    pub(crate) child_logit: Vec<f32>,
    /// Log of the children's summed exponentials `[D]`.
    pub(crate) children_lse: Vec<f32>,
    /// The same over the whole vocabulary `[D]`; only where the vocabulary was scored.
    pub(crate) vocabulary: Option<WholeVocabulary>,
}

/// Quantities that need every logit.
#[derive(Debug, Clone)]
pub(crate) struct WholeVocabulary {
    /// Log of the summed exponentials of all logits `[D]`.
    pub(crate) lse: Vec<f32>,
    /// Shannon entropy of the full softmax in nats `[D]`.
    pub(crate) entropy: Vec<f32>,
    /// What was subtracted from the logits of each block before their exponentials were kept; empty if they were not.
    pub(crate) shifts: Vec<f32>,
}

/// Exponentials of logits that passes side by side may keep together (256 MiB); more are computed again.
pub(crate) const KEPT_NUMBERS: usize = 64 << 20;

/// Size of the memory that keeps the exponentials of `decisions` over a vocabulary of `size`.
pub(crate) fn kept_len(space: LogprobSpace, decisions: usize, size: usize) -> usize {
    if space == LogprobSpace::Vocabulary { decisions * size } else { 0 }
}

impl Measured {
    /// Log-probability of child `index` (into `child_token`) of `decision` in `space`.
    pub(crate) fn logprob(&self, space: LogprobSpace, decision: usize, index: usize) -> f32 {
        self.child_logit[index] - self.lse(space, decision)
    }

    /// Log of the summed exponentials of all logits that count in `space`.
    pub(crate) fn lse(&self, space: LogprobSpace, decision: usize) -> f32 {
        match (space, &self.vocabulary) {
            (LogprobSpace::Vocabulary, Some(vocabulary)) => vocabulary.lse[decision],
            _ => self.children_lse[decision],
        }
    }

    /// Share of the full softmax that falls on legal children, where the vocabulary was scored.
    pub(crate) fn legal_mass(&self, decision: usize) -> Option<f32> {
        self.vocabulary.as_ref().map(|vocabulary| (self.children_lse[decision] - vocabulary.lse[decision]).exp())
    }

    /// Entropy of the children-renormalised distribution in nats.
    pub(crate) fn branch_entropy(&self, decisions: &Decisions, decision: usize) -> f32 {
        let lse = self.children_lse[decision];
        // H = lse - sum p z
        lse - lanes::expectation(&self.child_logit[decisions.children(decision)], lse)
    }
}

/// What an op scores and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Law {
    pub(crate) space: LogprobSpace,
    pub(crate) temperature: f32,
}

/// Scores all decisions without gradients.
///
/// # Shapes
/// - `hidden_dh`: `[D, H]` after the final norm, `head_vh`: `[V, H]`
pub(crate) fn measure(
    kernels: Kernels,
    hidden_dh: &Tensor,
    head_vh: &Tensor,
    decisions: &Decisions,
    law: Law,
) -> Result<Measured> {
    match kernels {
        Kernels::Fused => super::storage::with_slices([hidden_dh, head_vh], |[hidden, head]| {
            let head = Head { rows: head, width: hidden_dh.dim(1)?, transposed: None };
            Ok(forward::measure(hidden, head, decisions, law, None))
        }),
        Kernels::Composed => composed::measure(hidden_dh, head_vh, decisions, law),
    }
}

/// Log-probabilities of the asked edges `[E]` by candle's differentiable operations. Shapes as [`measure`].
pub(crate) fn composed_edge_logprobs(
    hidden_dh: &Tensor,
    head_vh: &Tensor,
    decisions: &Decisions,
    law: Law,
) -> Result<Tensor> {
    composed::edge_logprobs(hidden_dh, head_vh, decisions, law)
}

impl Measured {
    /// Log-probabilities of the asked edges `[E]`.
    pub(crate) fn edge_logprobs(&self, space: LogprobSpace, decisions: &Decisions) -> Vec<f32> {
        decisions.edges.iter().map(|&(d, child)| self.logprob(space, d as usize, child as usize)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{difference, wave};
    use super::*;
    use crate::tape::transpose_blocks;
    use candle_core::{Device, Var};

    /// Over `tokens` tokens.
    fn decisions(tokens: u32) -> Decisions {
        let mut decisions = Decisions::new();
        for d in 0..140_u32 {
            let tokens: Vec<u32> = (0..tokens).filter(|token| (token * 7 + d) % (2 + d % 5) == 0).collect();
            let index = decisions.push(&tokens) as u32;
            // Some decisions are asked for two edges, some for none.
            let first = decisions.first_child[d as usize] as u32;
            let last = decisions.first_child[d as usize + 1] as u32 - 1;
            (0..d % 3).for_each(|edge| decisions.edges.push((index, if edge == 0 { first } else { last })));
        }
        decisions
    }

    /// The gradients of a fixed projection of the edges' log-probabilities, by the fused form.
    fn fused_gradients(
        hidden: &[f32],
        head: Head<'_>,
        decisions: &Decisions,
        law: Law,
        projection: &[f32],
        keep: bool,
    ) -> [Vec<f32>; 2] {
        let mut kept = keep.then(|| vec![f32::NAN; kept_len(law.space, decisions.len(), head.rows.len() / head.width)]);
        let measured = forward::measure(hidden, head, decisions, law, kept.as_deref_mut());
        let kept = kept.as_deref();
        let pass = Pass { hidden, head, decisions, law, measured: &measured, kept, edge_gradient: projection };
        let (mut d_hidden, mut d_head) = (vec![0.0; hidden.len()], vec![0.0; head.rows.len()]);
        let room = room(&measured, decisions.len(), head.rows.len() / head.width);
        pass.add_gradients(&mut d_hidden, &mut d_head, &mut vec![f32::NAN; room]);
        [d_hidden, d_head]
    }

    /// Of a fixed random projection of the edges' log-probabilities, and the log-probabilities themselves.
    fn assert_gradients_agree(hidden: &Tensor, head: &Tensor, decisions: &Decisions, law: Law) {
        let (vars, edges) = ([hidden, head].map(|it| Var::from_tensor(it).unwrap()), decisions.edges.len());
        let logprobs = composed_edge_logprobs(vars[0].as_tensor(), vars[1].as_tensor(), decisions, law).unwrap();
        let projection = wave(&[edges], 2.2);
        let expected = (&logprobs * &projection).unwrap().sum_all().unwrap().backward().unwrap();
        let measured = measure(Kernels::Fused, hidden, head, decisions, law).unwrap();
        let fused = measured.edge_logprobs(law.space, decisions);
        assert!(difference(&Tensor::new(fused, &Device::Cpu).unwrap(), &logprobs) < 2e-5);
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (hiddens, heads, projection) = (flat(hidden), flat(head), flat(&projection));
        let mut transposed = vec![];
        transpose_blocks(&heads, 16, &mut transposed);
        for transposed in [None, Some(&*transposed)] {
            for keep in [false, true] {
                let head = Head { rows: &heads, width: 16, transposed };
                let gradients = fused_gradients(&hiddens, head, decisions, law, &projection, keep);
                for (got, var) in gradients.into_iter().zip(&vars) {
                    let got = Tensor::from_vec(got, var.shape(), &Device::Cpu).unwrap();
                    assert!(difference(&got, expected.get(var).unwrap()) < 2e-5);
                }
            }
        }
    }

    #[test]
    fn fused_and_composed_agree_in_values_and_gradients_in_both_spaces() {
        // Less than one block of tokens, and three of which the last is narrow.
        for tokens in [37, 531] {
            let (hidden, head, decisions) = (wave(&[140, 16], 0.3), wave(&[tokens, 16], 0.7), decisions(tokens as u32));
            for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
                let law = Law { space, temperature: 0.8 };
                assert_gradients_agree(&hidden, &head, &decisions, law);
                let fused = measure(Kernels::Fused, &hidden, &head, &decisions, law).unwrap();
                let composed = measure(Kernels::Composed, &hidden, &head, &decisions, law).unwrap();
                let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5);
                assert!(close(&fused.child_logit, &composed.child_logit));
                assert!(close(&fused.children_lse, &composed.children_lse));
                if let (Some(fused), Some(composed)) = (&fused.vocabulary, &composed.vocabulary) {
                    assert!(close(&fused.lse, &composed.lse) && close(&fused.entropy, &composed.entropy));
                }
                assert_eq!(fused.vocabulary.is_some(), space == LogprobSpace::Vocabulary);
            }
        }
    }

    #[test]
    fn more_decisions_than_a_chunk_are_measured_like_each_alone() {
        let (rows, tokens, width) = (2100, 300, 4);
        let numbers = |count: usize, phase: f32| (0..count).map(|i| 4.0 * (i as f32 * phase).sin()).collect::<Vec<_>>();
        let (hidden, heads) = (numbers(rows * width, 0.3), numbers(tokens * width, 0.7));
        let head = Head { rows: &heads, width, transposed: None };
        let law = Law { space: LogprobSpace::Vocabulary, temperature: 1.0 };
        let mut all = Decisions::new();
        for d in 0..rows {
            all.push(&[d as u32 % 250, 270]);
        }
        let projection = numbers(rows, 1.9);
        all.edges.extend((0..rows as u32).map(|d| (d, 2 * d)));
        let measured = forward::measure(&hidden, head, &all, law, None);
        let whole = fused_gradients(&hidden, head, &all, law, &projection, false);
        let kept = fused_gradients(&hidden, head, &all, law, &projection, true);
        for d in [0, 1, 127, 128, 1023, 1024, 2099] {
            let mut one = Decisions::new();
            one.push(&[d as u32 % 250, 270]);
            one.edges.push((0, 0));
            let row = &hidden[d * width..(d + 1) * width];
            let alone = forward::measure(row, head, &one, law, None);
            assert!((measured.logprob(law.space, d, 2 * d) - alone.logprob(law.space, 0, 0)).abs() < 1e-5);
            let [gradient, _] = fused_gradients(row, head, &one, law, &projection[d..=d], false);
            for whole in [&whole, &kept] {
                let of_row = &whole[0][d * width..(d + 1) * width];
                assert!(of_row.iter().zip(&gradient).all(|(a, b)| (a - b).abs() < 1e-4));
            }
        }
        assert!(whole[1].iter().zip(&kept[1]).all(|(a, b)| (a - b).abs() < 1e-2));
    }

    #[test]
    fn probabilities_of_all_children_sum_to_one_in_catalog_space_and_to_the_legal_mass_in_vocabulary_space() {
        let (hidden, head, decisions) = (wave(&[140, 16], 0.3), wave(&[37, 16], 0.7), decisions(37));
        let law = Law { space: LogprobSpace::Vocabulary, temperature: 1.0 };
        let measured = measure(Kernels::Fused, &hidden, &head, &decisions, law).unwrap();
        for d in 0..decisions.len() {
            let sum = |space| decisions.children(d).map(|c| measured.logprob(space, d, c).exp()).sum::<f32>();
            assert!((sum(LogprobSpace::Catalog) - 1.0).abs() < 1e-5);
            assert!((sum(LogprobSpace::Vocabulary) - measured.legal_mass(d).unwrap()).abs() < 1e-5);
        }
    }
}
