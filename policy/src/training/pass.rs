//! A forward pass that waits for its backward pass.

use crate::{
    forest::Forest,
    kernels::{
        score::{self, Decisions, Head, Law, Measured, composed_edge_logprobs, measure, measure_slices},
        storage::with_slices,
    },
    model::Model,
    operations::{Tensors, Weight},
    tape::{Buffer, Id, Sums, Tape},
};
use candle_core::{Device, Result, Tensor, backprop::GradStore};
use riser_core::logprob_space::LogprobSpace;
use std::sync::Arc;

/// A forward pass that still knows how it came about.
pub struct Scored {
    logprobs: Vec<f32>,
    rows: usize,
    pub(super) pass: Pass,
}

/// How a forward pass came about.
pub(super) enum Pass {
    /// On the CPU.
    Tape(Box<TapePass>),
    /// Elsewhere: log-probabilities and final states with candle's graph.
    Graph { logprobs: Tensor, hidden: Tensor },
}

impl Scored {
    /// Log-probability of every edge of the forest `[E]`.
    pub fn logprobs(&self) -> &[f32] {
        &self.logprobs
    }

    /// The log-probabilities alone, and the tape, cleared.
    pub(super) fn cancel(self) -> (Option<Tape>, Vec<f32>) {
        let tape = match self.pass {
            Pass::Tape(pass) => Some(pass.cancel()),
            Pass::Graph { .. } => None,
        };
        (tape, self.logprobs)
    }

    /// Rows of the forest.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Final states of the first `count` decisions `[count, H]`.
    pub(crate) fn hidden(&self, count: usize) -> Result<Tensor> {
        match &self.pass {
            Pass::Tape(pass) => {
                let width = pass.tape.width(pass.hidden);
                let states = &pass.tape.value(pass.hidden)[..count * width];
                Tensor::from_slice(states, (count, width), &Device::Cpu)
            }
            Pass::Graph { hidden, .. } => hidden.detach().narrow(0, 0, count),
        }
    }

    /// Entropy of the policy over the children of each decision in nats `[D]`.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub(crate) fn branch_entropies(&self, model: &Model, decisions: &Decisions, temperature: f32) -> Result<Vec<f32>> {
        let of = |measured: &Measured| (0..decisions.len()).map(|d| measured.branch_entropy(decisions, d)).collect();
        match &self.pass {
            Pass::Tape(pass) => Ok(of(&pass.measured)),
            Pass::Graph { hidden, .. } => {
                let law = Law { space: LogprobSpace::Catalog, temperature };
                Ok(of(&measure(model.kernels(), &hidden.detach(), model.head(), decisions, law)?))
            }
        }
    }

    /// Scores a forest with a model whose tensors are variables, with candle's graph.
    pub(super) fn with_graph(model: &Model, forest: &Forest, law: Law) -> Result<Self> {
        let hidden = model.run(&mut Tensors { kernels: model.kernels(), cache: None }, &forest.rows)?;
        let logprobs = composed_edge_logprobs(&hidden, model.head(), &forest.decisions, law)?;
        let values = logprobs.to_vec1()?;
        Ok(Self { logprobs: values, rows: forest.num_rows(), pass: Pass::Graph { logprobs, hidden } })
    }

    /// Scores a forest on a cleared tape; with `keep` the exponentials of logits stay there for the backward pass.
    pub(super) fn on_tape(mut tape: Tape, model: &Model, forest: &Forest, law: Law, keep: bool) -> Result<Self> {
        let hidden = model.run(&mut tape, &forest.rows)?;
        let decisions = forest.decisions.clone();
        let kept_len = score::kept_len(law.space, decisions.len(), model.shape().vocab_size);
        let mut kept = (keep && kept_len > 0).then(|| tape.lend(kept_len));
        let measured = with_slices([model.head()], |[rows]| {
            let head = Head { rows, width: tape.width(hidden), transposed: tape.transposed_head() };
            Ok(measure_slices(tape.value(hidden), head, &decisions, law, kept.as_deref_mut()))
        })?;
        let logprobs = measured.edge_logprobs(law.space, &decisions);
        let pass = TapePass { tape, hidden, decisions, measured, kept, law };
        Ok(Self { logprobs, rows: forest.num_rows(), pass: Pass::Tape(Box::new(pass)) })
    }
}

/// A forward pass on a tape, with the head behind it.
pub(super) struct TapePass {
    tape: Tape,
    hidden: Id,
    decisions: Arc<Decisions>,
    measured: Measured,
    /// Exponentials of logits.
    kept: Option<Buffer>,
    law: Law,
}

impl TapePass {
    /// Adds the gradient of `sum_e coefficients[e] logprob_e` to `sums`; returns the tape, cleared.
    pub(super) fn backward(self, head: &Weight, coefficients: &[f32], sums: &mut Sums) -> Result<Tape> {
        let Self { mut tape, hidden, decisions, measured, kept, law } = self;
        let mut d_hidden = tape.gradient_of(hidden);
        let mut room = tape.lend(score::room(&measured, decisions.len(), head.tensor.dim(0)?));
        with_slices([&head.tensor], |[rows]| {
            let pass = score::Pass {
                hidden: tape.value(hidden),
                head: Head { rows, width: tape.width(hidden), transposed: tape.transposed_head() },
                decisions: &decisions,
                law,
                measured: &measured,
                kept: kept.as_deref(),
                edge_gradient: coefficients,
            };
            pass.add_gradients(&mut d_hidden, sums.term(head.index), &mut room);
            Ok(())
        })?;
        [Some(room), kept].into_iter().flatten().for_each(|buffer| tape.take_back(buffer));
        tape.backward(hidden, d_hidden, sums)?;
        tape.clear();
        Ok(tape)
    }

    /// The tape, cleared.
    pub(super) fn cancel(mut self) -> Tape {
        self.kept.into_iter().for_each(|kept| self.tape.take_back(kept));
        self.tape.clear();
        self.tape
    }
}

/// Gradients of `sum_e coefficients[e] logprob_e` by candle's graph.
pub(super) fn graph_gradients(logprobs: &Tensor, coefficients: Vec<f32>) -> Result<GradStore> {
    let coefficients = Tensor::from_vec(coefficients, logprobs.shape(), logprobs.device())?;
    (logprobs * coefficients)?.sum_all()?.backward()
}
