//! A policy in training: forward over a forest, backward from coefficients, update.
//!
//! The loss never exists as a tensor. The caller reads log-probabilities, decides `c_e = dL / d logprob_e` for every edge
//! (the objective does, in f64), and the backward pass starts from `sum_e c_e logprob_e`, whose gradient is that of the loss.

mod state;

pub use state::{OPTIMIZER_FILE, TrainingState};

use crate::{
    forest::Forest,
    kernels::score::{Law, edge_logprobs},
    model::Model,
    optimizer::{AdamW, AdamWSettings, Gradients},
    parameters::Parameters,
};
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use riser_core::logprob_space::LogprobSpace;

/// Parameters, optimizer and the gradients summed so far.
#[derive(Debug)]
pub struct Training {
    parameters: Parameters,
    model: Model,
    frozen: Model,
    optimizer: AdamW,
    gradients: Gradients,
    has_gradients: bool,
}

/// A forward pass that still knows its graph.
pub struct Scored {
    logprobs: Tensor,
    /// Final states of the decisions' rows `[D, H]`.
    pub(crate) hidden: Tensor,
}

impl Scored {
    /// Log-probability of every edge of the forest `[E]`.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn logprobs(&self) -> Result<Vec<f32>> {
        self.logprobs.to_vec1()
    }
}

/// Scores every edge of a forest with any model.
pub(crate) fn score(model: &Model, forest: &Forest, law: Law) -> Result<Scored> {
    let hidden = model.hidden(&forest.rows, None)?;
    let logprobs = edge_logprobs(model.kernels(), &hidden, model.head(), &forest.decisions, law)?;
    Ok(Scored { logprobs, hidden })
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
        Ok(Self { parameters, model, frozen, optimizer, gradients: Gradients::default(), has_gradients: false })
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

    /// Log-probabilities of all edges, with the graph for [`backward`](Self::backward).
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn forward(&self, forest: &Forest, space: LogprobSpace, temperature: f32) -> Result<Scored> {
        score(&self.model, forest, Law { space, temperature })
    }

    /// [`forward`](Self::forward) of several forests, side by side.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn forward_shards(&self, shards: &[&Forest], space: LogprobSpace, temperature: f32) -> Result<Vec<Scored>> {
        shards.par_iter().map(|forest| self.forward(forest, space, temperature)).collect()
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
        let parameters = &self.parameters;
        let gradients = shards.into_par_iter().map(|(scored, coefficients)| {
            assert_eq!(coefficients.len(), scored.logprobs.elem_count(), "one coefficient per edge");
            if coefficients.is_empty() {
                return Ok(None);
            }
            let coefficients = Tensor::from_vec(coefficients, scored.logprobs.shape(), scored.logprobs.device())?;
            let grads = (scored.logprobs * coefficients)?.sum_all()?.backward()?;
            Gradients::of(parameters, &grads).map(Some)
        });
        let gradients: Vec<Gradients> = gradients.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        self.has_gradients |= !gradients.is_empty();
        self.gradients.add(gradients)
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
        let gradients = std::mem::take(&mut self.gradients);
        if !std::mem::take(&mut self.has_gradients) {
            return Ok(0.0);
        }
        self.optimizer.update(&self.parameters, &gradients, learning_rate)
    }
}

#[cfg(test)]
mod tests;
