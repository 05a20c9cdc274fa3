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

pub(crate) use backward::{Pass, room};
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
            Ok(forward::measure(hidden, head, hidden_dh.dim(1)?, decisions, law))
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
    use candle_core::{Device, Var};

    fn decisions() -> Decisions {
        let mut decisions = Decisions::new();
        for d in 0..140_u32 {
            let tokens: Vec<u32> = (0..37).filter(|token| (token * 7 + d) % (2 + d % 5) == 0).collect();
            let index = decisions.push(&tokens) as u32;
            // Some decisions are asked for two edges, some for none.
            let first = decisions.first_child[d as usize] as u32;
            (0..d % 3).for_each(|edge| decisions.edges.push((index, first + edge)));
        }
        decisions
    }

    /// Of a fixed random projection of the edges' log-probabilities, and the log-probabilities themselves.
    fn assert_gradients_agree(hidden: &Tensor, head: &Tensor, decisions: &Decisions, law: Law) {
        let (vars, edges) = ([hidden, head].map(|it| Var::from_tensor(it).unwrap()), decisions.edges.len());
        let logprobs = composed_edge_logprobs(vars[0].as_tensor(), vars[1].as_tensor(), decisions, law).unwrap();
        let projection = wave(&[edges], 2.2);
        let expected = (&logprobs * &projection).unwrap().sum_all().unwrap().backward().unwrap();
        let measured = measure(Kernels::Fused, hidden, head, decisions, law).unwrap();
        let fused = measured.edge_logprobs(law.space, decisions);
        assert!(difference(&Tensor::new(fused, &Device::Cpu).unwrap(), &logprobs) < 1e-5);
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (hiddens, heads, projection) = (flat(hidden), flat(head), flat(&projection));
        let pass = Pass {
            hidden: &hiddens,
            head: &heads,
            width: 16,
            decisions,
            law,
            measured: &measured,
            edge_gradient: &projection,
        };
        let (mut d_hidden, mut d_head) = (vec![0.0; hiddens.len()], vec![0.0; heads.len()]);
        pass.add_gradients(&mut d_hidden, &mut d_head, &mut vec![f32::NAN; room(&measured, decisions.len(), 37)]);
        for (got, var) in [d_hidden, d_head].into_iter().zip(&vars) {
            let got = Tensor::from_vec(got, var.shape(), &Device::Cpu).unwrap();
            assert!(difference(&got, expected.get(var).unwrap()) < 2e-5);
        }
    }

    #[test]
    fn fused_and_composed_agree_in_values_and_gradients_in_both_spaces() {
        let (hidden, head, decisions) = (wave(&[140, 16], 0.3), wave(&[37, 16], 0.7), decisions());
        for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
            let law = Law { space, temperature: 0.8 };
            assert_gradients_agree(&hidden, &head, &decisions, law);
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
