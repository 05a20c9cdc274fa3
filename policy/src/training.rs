//! A policy in training: forward over a forest, backward from coefficients, update.
//!
//! The loss never exists as a tensor. The caller reads log-probabilities, decides `c_e = dL / d logprob_e` for every edge
//! (the objective does, in f64), and the backward pass starts from `sum_e c_e logprob_e`, whose gradient is that of the loss.

mod pass;
mod state;

pub use pass::Scored;
pub use state::{OPTIMIZER_FILE, TrainingState};

use crate::{
    forest::Forest,
    kernels::{
        Kernels,
        score::{self, Law, measure},
    },
    memory::{self, Extent},
    model::Model,
    optimizer::{AdamW, AdamWSettings, Gradients, notes::Notes},
    parameters::Parameters,
    shards,
    tape::{Meter, Sums, Tape, Transposed},
};
use candle_core::{Result, Tensor};
use pass::{Pass, TapePass, graph_gradients};
use rayon::prelude::*;
use riser_core::{
    ids::PolicyVersion,
    logprob_space::LogprobSpace,
    snapshot::{PolicyIdentity, PolicySnapshot, SnapshotError, TensorDtype},
};
use std::sync::{Arc, Mutex};

/// A pass with a coefficient per edge.
type Weighted = (Box<TapePass>, Vec<f32>);

/// Parameters, optimizer and the gradients summed so far.
#[derive(Debug)]
pub struct Training {
    parameters: Parameters,
    model: Model,
    frozen: Model,
    optimizer: AdamW,
    /// What updates do to the served policy, once one was served.
    notes: Option<Notes>,
    gradients: Gradients,
    has_gradients: bool,
    /// Not in use at the moment, with their memory.
    tapes: Mutex<Vec<Tape>>,
    /// Numbers on all tapes.
    meter: Arc<Meter>,
    /// The weights of the last forward pass, for their memory.
    transposed: Mutex<Arc<Transposed>>,
    /// Memory for the gradients of the shards, see [`shards::lanes`].
    sums: Vec<Sums>,
}

/// Log-probability of every edge of a forest `[E]` under any model, without gradients.
pub(crate) fn logprobs(model: &Model, forest: &Forest, law: Law) -> Result<Vec<f32>> {
    let hidden = model.hidden(&forest.rows, None)?;
    let measured = measure(model.kernels(), &hidden, model.head(), &forest.decisions, law)?;
    Ok(measured.edge_logprobs(law.space, &forest.decisions))
}

impl Training {
    /// Starts with a fresh optimizer.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn new(parameters: Parameters, settings: AdamWSettings) -> Result<Self> {
        let optimizer = AdamW::new(&parameters, settings)?;
        Self::resume(parameters, optimizer)
    }

    /// Goes on with an optimizer's state.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn resume(parameters: Parameters, optimizer: AdamW) -> Result<Self> {
        let (model, frozen) = (parameters.trainable_model()?, parameters.inference_model()?);
        Ok(Self {
            parameters,
            model,
            frozen,
            optimizer,
            notes: None,
            gradients: Gradients::default(),
            has_gradients: false,
            tapes: Mutex::default(),
            meter: Arc::default(),
            transposed: Mutex::default(),
            sums: vec![],
        })
    }

    /// A copy of everything that the next step depends on, which later steps do not change.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn state(&self) -> Result<TrainingState> {
        TrainingState::of(&self.parameters, &self.optimizer)
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The optimizer's state.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// A model over the present parameters that records no graph; it sees every update.
    pub fn inference_model(&self) -> &Model {
        &self.frozen
    }

    /// Log-probabilities of all edges, with what [`backward`](Self::backward) needs.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn forward(&self, forest: &Forest, space: LogprobSpace, temperature: f32) -> Result<Scored> {
        Ok(self.forward_shards(&[forest], space, temperature)?.remove(0))
    }

    /// [`forward`](Self::forward) of several forests, side by side.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn forward_shards(&self, shards: &[&Forest], space: LogprobSpace, temperature: f32) -> Result<Vec<Scored>> {
        self.forward_keeping(shards, Law { space, temperature }, self.may_keep_exponentials(space, shards))
    }

    /// [`forward_shards`](Self::forward_shards) that keeps the exponentials of logits for the backward pass, or computes them
    /// again there.
    pub(crate) fn forward_keeping(&self, shards: &[&Forest], law: Law, keep: bool) -> Result<Vec<Scored>> {
        match self.frozen.kernels() {
            Kernels::Fused => {
                let transposed = self.transposed(law.space)?;
                let tapes: Vec<Tape> = self.tapes_for(shards, law.space, keep);
                let of_shard = |(forest, tape): (&&Forest, Tape)| {
                    Scored::on_tape(tape.with_transposed(transposed.clone()), &self.frozen, forest, law, keep)
                };
                shards.par_iter().zip(tapes).map(of_shard).collect()
            }
            Kernels::Composed => shards.iter().map(|forest| Scored::with_graph(&self.model, forest, law)).collect(),
        }
    }

    /// Log-probability of every edge of a forest `[E]` under another model of the same shape, without gradients.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub(crate) fn logprobs_under(&self, model: &Model, forest: &Forest, law: Law) -> Result<Vec<f32>> {
        if model.kernels() == Kernels::Composed {
            return logprobs(model, forest, law);
        }
        let mut tape = self.tape();
        tape.set_limit(self.tape_numbers(forest, law.space, false));
        let (tape, logprobs) = Scored::on_tape(tape, model, forest, law, false)?.cancel();
        tape.into_iter().for_each(|tape| self.put_away(tape));
        Ok(logprobs)
    }

    /// Adds the gradient of `sum_e coefficients[e] logprob_e` to the sum.
    ///
    /// # Errors
    /// If a parameter receives no gradient.
    ///
    /// # Panics
    /// If there is not one coefficient per edge.
    pub fn backward(&mut self, scored: Scored, coefficients: Vec<f32>) -> Result<()> {
        self.backward_shards(vec![(scored, coefficients)])
    }

    /// [`backward`](Self::backward) of several forests, side by side; their gradients are added in order.
    ///
    /// # Errors
    /// If a parameter receives no gradient.
    ///
    /// # Panics
    /// If there is not one coefficient per edge.
    pub fn backward_shards(&mut self, shards: Vec<(Scored, Vec<f32>)>) -> Result<()> {
        let (mut tapes, mut graphs, mut rows) = (vec![], vec![], vec![]);
        for (scored, coefficients) in shards {
            assert_eq!(coefficients.len(), scored.logprobs().len(), "one coefficient per edge");
            let has_edges = !coefficients.is_empty();
            self.has_gradients |= has_edges;
            let scored_rows = scored.rows();
            match scored.pass {
                Pass::Tape(pass) if has_edges => {
                    tapes.push((pass, coefficients));
                    rows.push(scored_rows);
                }
                Pass::Tape(pass) => self.put_away(pass.cancel()),
                Pass::Graph { logprobs, .. } if has_edges => graphs.push((logprobs, coefficients)),
                Pass::Graph { .. } => {}
            }
        }
        self.backward_graphs(graphs)?;
        self.backward_tapes(tapes, &rows)
    }

    fn backward_graphs(&mut self, graphs: Vec<(Tensor, Vec<f32>)>) -> Result<()> {
        for (logprobs, coefficients) in graphs {
            let grads = graph_gradients(&logprobs, coefficients)?;
            self.gradients.add(Gradients::of(&self.parameters, &grads)?)?;
        }
        Ok(())
    }

    fn backward_tapes(&mut self, passes: Vec<Weighted>, rows: &[usize]) -> Result<()> {
        if passes.is_empty() {
            return Ok(());
        }
        let runs = shards::lanes(rows, self.parameters.num_scalars());
        let mut passes = passes.into_iter();
        let lanes: Vec<Vec<_>> = runs.iter().map(|run| passes.by_ref().take(run.len()).collect()).collect();
        while self.sums.len() < lanes.len() {
            self.sums.push(Sums::new(self.parameters.vars().values().map(|var| var.elem_count())));
        }
        let mut sums = std::mem::take(&mut self.sums);
        let used = &mut sums[..lanes.len()];
        let of_lane = |(lane, sums): (Vec<Weighted>, &mut Sums)| {
            sums.reset();
            for (pass, coefficients) in lane {
                self.put_away(pass.backward(self.frozen.head_weight(), &coefficients, sums)?);
            }
            Result::Ok(())
        };
        lanes.into_par_iter().zip(&mut *used).try_for_each(of_lane)?;
        self.gradients.add_sums(&self.parameters, used)?;
        self.sums = sums;
        Ok(())
    }

    /// The weights as they are now, transposed.
    fn transposed(&self, space: LogprobSpace) -> Result<Arc<Transposed>> {
        let slot = || self.transposed.lock().expect("no holder of the lock panics");
        // The memory is ours again as soon as no tape holds it. Nobody waits for the lock while threads are at work.
        let before = std::mem::take(&mut *slot());
        let mut fresh = Arc::try_unwrap(before).unwrap_or_default();
        fresh.refresh(&self.frozen, space)?;
        let fresh = Arc::new(fresh);
        *slot() = fresh.clone();
        Ok(fresh)
    }

    /// Whether passes over these shards side by side may keep the exponentials of their logits.
    pub(crate) fn may_keep_exponentials(&self, space: LogprobSpace, shards: &[&Forest]) -> bool {
        let size = self.frozen.shape().vocab_size;
        let kept = shards.iter().map(|forest| score::kept_len(space, forest.decisions.len(), size));
        kept.sum::<usize>() <= score::KEPT_NUMBERS
    }

    /// Most numbers on a tape that passes a forest.
    pub(crate) fn tape_numbers(&self, forest: &Forest, space: LogprobSpace, keep: bool) -> usize {
        memory::tape_numbers(self.parameters.shape(), space, Extent::of(forest), keep)
    }

    /// Most bytes that all tapes together have held.
    pub fn most_tape_bytes(&self) -> usize {
        memory::bytes(self.meter.most())
    }

    /// A tape for every shard, which holds no more than the pass needs ([`crate::memory`]).
    fn tapes_for(&self, shards: &[&Forest], space: LogprobSpace, keep: bool) -> Vec<Tape> {
        let mut tapes: Vec<Tape> = shards.iter().map(|_| self.tape()).collect();
        // All others let go before the first of these grows.
        self.tapes.lock().expect("no holder of the lock panics").clear();
        let limits = shards.iter().map(|forest| self.tape_numbers(forest, space, keep));
        tapes.iter_mut().zip(limits).for_each(|(tape, limit)| tape.set_limit(limit));
        tapes
    }

    fn tape(&self) -> Tape {
        let kept = self.tapes.lock().expect("no holder of the lock panics").pop();
        kept.unwrap_or_else(|| Tape::metered(self.meter.clone()))
    }

    fn put_away(&self, tape: Tape) {
        self.tapes.lock().expect("no holder of the lock panics").push(tape);
    }

    /// The gradients summed since the last update.
    pub fn gradients(&self) -> &Gradients {
        &self.gradients
    }

    /// Updates the parameters with the summed gradients; returns their norm before clipping. Without any gradient (a batch
    /// in which nothing was to be decided) nothing changes and the norm is 0.
    ///
    /// # Errors
    /// If the gradient is not finite.
    pub fn update(&mut self, learning_rate: f64) -> Result<f64> {
        if !std::mem::take(&mut self.has_gradients) {
            self.gradients.reset();
            return Ok(0.0);
        }
        if let Some(notes) = &mut self.notes {
            notes.begin(&self.parameters);
        }
        let norm = self.optimizer.noted_update(&self.parameters, &self.gradients, learning_rate, self.notes.as_mut());
        if norm.is_err() {
            // What was begun says nothing of the policy as it is.
            self.notes = None;
        }
        self.gradients.reset();
        norm
    }

    /// What the policy is, and the policy as it is served in `dtype`. After one update since the last call it knows its
    /// [changes](riser_core::snapshot::Changes): the update has noted them in passing.
    ///
    /// # Errors
    /// [`SnapshotError::NotFinite`] if training has diverged, or for a value beyond the largest of `dtype`.
    pub fn serve(
        &mut self,
        version: PolicyVersion,
        dtype: TensorDtype,
    ) -> std::result::Result<(PolicyIdentity, PolicySnapshot), SnapshotError> {
        let policy = self.parameters.snapshot(version)?;
        let served = match self.notes.take() {
            Some(notes) => notes.serve(&policy, dtype)?,
            None => policy.served_as(dtype)?,
        };
        // Updates elsewhere are made by other means, and note nothing.
        self.notes = self.parameters.device().is_cpu().then(|| Notes::since(&served, dtype));
        Ok((policy.identity(), served))
    }
}

#[cfg(test)]
mod tests;
