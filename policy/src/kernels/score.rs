//! The output head where it is needed: log-probabilities of catalog edges, in either space.
//!
//! A **decision** is a forest row at which the catalog offers children. With logits z_v = w_v . h / T:
//!
//! ```text
//! vocabulary:  log p(v) = z_v - log sum_{u in V} exp z_u            (method 0, finding 2: the paper's reading)
//! catalog:     log p(v) = z_v - log sum_{u in children} exp z_u     (what constrained sampling draws from)
//! dz_u = sum_e g_e ([u = token of e] - p(u))
//! ```
//! In catalog space only the children's rows of the head are touched; in vocabulary space the logits exist for a bounded
//! chunk of decisions at a time, never for all of them.

mod backward;
mod composed;
mod forward;

use super::{Kernels, storage::slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use riser_core::logprob_space::LogprobSpace;
use std::sync::{Arc, OnceLock};

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
}

impl Measured {
    /// Log-probability of child `index` (into `child_token`) of `decision` in `space`.
    pub(crate) fn logprob(&self, space: LogprobSpace, decision: usize, index: usize) -> f32 {
        let lse = match (space, &self.vocabulary) {
            (LogprobSpace::Vocabulary, Some(vocabulary)) => vocabulary.lse[decision],
            _ => self.children_lse[decision],
        };
        self.child_logit[index] - lse
    }

    /// Share of the full softmax that falls on legal children, where the vocabulary was scored.
    pub(crate) fn legal_mass(&self, decision: usize) -> Option<f32> {
        self.vocabulary.as_ref().map(|vocabulary| (self.children_lse[decision] - vocabulary.lse[decision]).exp())
    }

    /// Entropy of the children-renormalised distribution in nats.
    pub(crate) fn branch_entropy(&self, decisions: &Decisions, decision: usize) -> f32 {
        let lse = self.children_lse[decision];
        -decisions
            .children(decision)
            .map(|index| self.child_logit[index] - lse)
            .map(|logprob| logprob.exp() * logprob)
            .sum::<f32>()
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
            Ok(forward::measure(hidden, head, hidden_dh.dim(1)?, decisions, law))
        }),
        Kernels::Composed => composed::measure(hidden_dh, head_vh, decisions, law),
    }
}

/// Log-probabilities of the asked edges `[E]`, with gradients. Shapes as [`measure`].
pub(crate) fn edge_logprobs(
    kernels: Kernels,
    hidden_dh: &Tensor,
    head_vh: &Tensor,
    decisions: &Arc<Decisions>,
    law: Law,
) -> Result<Tensor> {
    match kernels {
        Kernels::Fused => {
            let op = EdgeLogprobs { decisions: decisions.clone(), law, measured: OnceLock::new() };
            hidden_dh.contiguous()?.apply_op2(head_vh, op)
        }
        Kernels::Composed => composed::edge_logprobs(hidden_dh, head_vh, decisions, law),
    }
}

struct EdgeLogprobs {
    decisions: Arc<Decisions>,
    law: Law,
    /// Filled by the forward pass for the backward pass.
    measured: OnceLock<Measured>,
}

impl CustomOp2 for EdgeLogprobs {
    fn name(&self) -> &'static str {
        "edge logprobs"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = l1.shape().dims2()?;
        let measured = forward::measure(slice(s1, l1)?, slice(s2, l2)?, width, &self.decisions, self.law);
        let edges = &self.decisions.edges;
        let logprobs: Vec<f32> =
            edges.iter().map(|&(d, child)| measured.logprob(self.law.space, d as usize, child as usize)).collect();
        self.measured.set(measured).ok();
        let shape = Shape::from(logprobs.len());
        Ok((CpuStorage::F32(logprobs), shape))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        head: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        use super::storage::{tensor, with_slices};
        let measured = self.measured.get().expect("a backward pass follows the forward pass");
        with_slices([hidden, head, grad], |[hiddens, heads, grads]| {
            let pass = backward::Pass {
                hidden: hiddens,
                head: heads,
                width: hidden.dim(1)?,
                decisions: &self.decisions,
                law: self.law,
                measured,
                edge_gradient: grads,
            };
            let (d_hidden, d_head) = pass.gradients();
            Ok((Some(tensor(d_hidden, hidden.shape())?), Some(tensor(d_head, head.shape())?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};
    use super::*;

    fn decisions() -> Arc<Decisions> {
        let mut decisions = Decisions::new();
        for d in 0..140_u32 {
            let tokens: Vec<u32> = (0..37).filter(|token| (token * 7 + d) % (2 + d % 5) == 0).collect();
            let index = decisions.push(&tokens) as u32;
            // Some decisions are asked for two edges, some for none.
            let first = decisions.first_child[d as usize] as u32;
            (0..d % 3).for_each(|edge| decisions.edges.push((index, first + edge)));
        }
        Arc::new(decisions)
    }

    #[test]
    fn fused_and_composed_agree_in_values_and_gradients_in_both_spaces() {
        let (hidden, head, decisions) = (wave(&[140, 16], 0.3), wave(&[37, 16], 0.7), decisions());
        for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
            let law = Law { space, temperature: 0.8 };
            assert_forms_agree(&[&hidden, &head], |kernels, args| {
                edge_logprobs(kernels, &args[0], &args[1], &decisions, law)
            });
            let fused = measure(Kernels::Fused, &hidden, &head, &decisions, law).unwrap();
            let composed = measure(Kernels::Composed, &hidden, &head, &decisions, law).unwrap();
            let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close(&fused.child_logit, &composed.child_logit));
            assert!(close(&fused.children_lse, &composed.children_lse));
            if let (Some(fused), Some(composed)) = (&fused.vocabulary, &composed.vocabulary) {
                assert!(close(&fused.lse, &composed.lse) && close(&fused.entropy, &composed.entropy));
            }
            assert_eq!(fused.vocabulary.is_some(), space == LogprobSpace::Vocabulary);
        }
    }

    #[test]
    fn probabilities_of_all_children_sum_to_one_in_catalog_space_and_to_the_legal_mass_in_vocabulary_space() {
        let (hidden, head, decisions) = (wave(&[140, 16], 0.3), wave(&[37, 16], 0.7), decisions());
        let law = Law { space: LogprobSpace::Vocabulary, temperature: 1.0 };
        let measured = measure(Kernels::Fused, &hidden, &head, &decisions, law).unwrap();
        for d in 0..decisions.len() {
            let sum = |space| decisions.children(d).map(|c| measured.logprob(space, d, c).exp()).sum::<f32>();
            assert!((sum(LogprobSpace::Catalog) - 1.0).abs() < 1e-5);
            assert!((sum(LogprobSpace::Vocabulary) - measured.legal_mass(d).unwrap()).abs() < 1e-5);
        }
    }
}
