//! The reinforcement step: groups in, one or more optimizer steps out.
//!
//! Each optimizer batch is one forest, cut into shards. Its log-probabilities go to the pure
//! objective as one batch, and the coefficients that come back go through the model. A token that several completions
//! share is one edge, which receives the sum of their coefficients.

mod forest;
mod report;

pub use report::ReinforceReport;

use crate::{
    forest::Forest,
    kernels::score::{Law, Measured, measure},
    model::Model,
    optimizer::AdamWSettings,
    parameters::Parameters,
    schedule::Schedule,
    shards,
    training::{Scored, Training, score},
};
use candle_core::Result;
use forest::GroupForest;
use rayon::prelude::*;
use report::Tally;
use riser_core::{
    group::RolloutGroup,
    logprob_space::LogprobSpace,
    objective::{self, ObjectiveConfig, ObjectiveError},
    prefix_tree::PrefixTree,
};

/// Settings of the reinforcement stage.
#[derive(Debug, Clone)]
pub struct ReinforceSettings {
    /// The loss.
    pub objective: ObjectiveConfig,
    /// Space of all log-probabilities.
    pub space: LogprobSpace,
    /// Logits are divided by this, as in sampling.
    pub temperature: f32,
    /// Optimizer steps per batch of groups; with more than one, later steps are off-policy.
    pub minibatches: usize,
    /// Most forest rows in one pass.
    pub micro_batch_tokens: usize,
    /// Learning rate over the run, by optimizer step.
    pub schedule: Schedule,
    /// Optimizer constants.
    pub optimizer: AdamWSettings,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ReinforceError {
    /// The model.
    #[error("model: {0}")]
    Model(#[from] candle_core::Error),
    /// The objective refused its input or its result.
    #[error("objective: {0}")]
    Objective(#[from] ObjectiveError),
}

/// The policy in reinforcement training.
#[derive(Debug)]
pub struct Reinforce {
    settings: ReinforceSettings,
    training: Training,
    /// The frozen policy of the divergence penalty: the supervised checkpoint.
    reference: Option<Model>,
}

impl Reinforce {
    /// Goes on with `training`; `reference` is only kept if the objective asks for it.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn new(training: Training, reference: &Parameters, settings: ReinforceSettings) -> Result<Self> {
        let needed = settings.objective.needs_reference();
        let reference = if needed { Some(reference.duplicate()?.inference_model()?) } else { None };
        Ok(Self { settings, training, reference })
    }

    /// The policy in training.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// Trains on one batch of groups, ordered by id.
    ///
    /// # Errors
    /// [`ReinforceError`].
    pub fn step(
        &mut self,
        catalog: &PrefixTree,
        groups: &[RolloutGroup],
    ) -> std::result::Result<ReinforceReport, ReinforceError> {
        let mut tally = Tally::new(groups);
        let size = groups.len().div_ceil(self.settings.minibatches).max(1);
        for minibatch in groups.chunks(size) {
            self.minibatch(catalog, minibatch, &mut tally)?;
        }
        Ok(tally.report())
    }

    /// One optimizer step.
    fn minibatch(
        &mut self,
        catalog: &PrefixTree,
        groups: &[RolloutGroup],
        tally: &mut Tally,
    ) -> std::result::Result<(), ReinforceError> {
        let ReinforceSettings { objective, space, micro_batch_tokens: budget, .. } = self.settings;
        let per_shard = shards::rows_per_shard(budget, self.training.parameters().num_scalars());
        let shards = GroupForest::build(catalog, groups, &objective, space, per_shard);
        let lengths: Vec<usize> = shards.iter().map(|shard| shard.forest.num_rows()).collect();
        let micro_batches = shards::cut(&lengths, budget);
        let mut batch = vec![];
        let mut kept: Option<Vec<Scored>> = None;
        for micro_batch in &micro_batches {
            let shards = &shards[micro_batch.clone()];
            let scored = self.forward(shards)?;
            for (shard, scored) in shards.iter().zip(&scored) {
                tally.forward(shard, self.whole_vocabulary(shard, scored, tally.measured())?.as_ref());
            }
            batch.extend(self.objective_groups(shards, &scored)?);
            // A single micro-batch's graph is still there for the backward pass; several would not fit in memory.
            kept = (micro_batches.len() == 1).then_some(scored);
        }
        let outcome = objective::evaluate(&objective, &batch)?;
        let mut first = 0;
        for micro_batch in micro_batches {
            let shards = &shards[micro_batch];
            let scored = match kept.take() {
                Some(scored) => scored,
                None => self.forward(shards)?,
            };
            let coefficients = shards.iter().map(|shard| {
                let coefficients = shard.coefficients(first, &outcome);
                first += shard.groups.len();
                coefficients
            });
            let weighted = scored.into_iter().zip(coefficients).collect();
            self.training.backward_shards(weighted)?;
        }
        let learning_rate = self.settings.schedule.at(self.training.optimizer().steps());
        let gradient_norm = self.training.update(learning_rate)?;
        tally.optimizer_step(outcome, groups.len(), gradient_norm, learning_rate);
        Ok(())
    }

    fn forward(&self, shards: &[GroupForest<'_>]) -> Result<Vec<Scored>> {
        let forests: Vec<&Forest> = shards.iter().map(|shard| &shard.forest).collect();
        self.training.forward_shards(&forests, self.settings.space, self.settings.temperature)
    }

    /// The groups of several shards as the objective reads them.
    fn objective_groups(&self, shards: &[GroupForest<'_>], scored: &[Scored]) -> Result<Vec<objective::Group>> {
        let of_shard = |(shard, scored): (&GroupForest<'_>, &Scored)| {
            let reference = self.reference_logprobs(shard)?;
            Ok(shard.objective_groups(&scored.logprobs()?, reference.as_deref()))
        };
        let groups = shards.par_iter().zip(scored).map(of_shard).collect::<Result<Vec<_>>>()?;
        Ok(groups.into_iter().flatten().collect())
    }

    /// In catalog space the full softmax is not computed; for the log it is measured at the first decisions of a batch.
    fn whole_vocabulary(&self, part: &GroupForest<'_>, scored: &Scored, before: usize) -> Result<Option<Measured>> {
        const DECISIONS: usize = 256;
        let ReinforceSettings { space, temperature, .. } = self.settings;
        if space == LogprobSpace::Vocabulary || part.forest.num_edges() == 0 || before >= DECISIONS {
            return Ok(None);
        }
        let decisions = part.forest.decisions.first(DECISIONS - before);
        let hidden = scored.hidden.detach().narrow(0, 0, decisions.len())?;
        let model = self.training.inference_model();
        let law = Law { space: LogprobSpace::Vocabulary, temperature };
        Ok(Some(measure(model.kernels(), &hidden, model.head(), &decisions, law)?))
    }

    fn reference_logprobs(&self, part: &GroupForest<'_>) -> Result<Option<Vec<f32>>> {
        let law = Law { space: self.settings.space, temperature: self.settings.temperature };
        self.reference.as_ref().map(|model| score(model, &part.forest, law)?.logprobs()).transpose()
    }
}

#[cfg(test)]
mod tests;
