//! The reinforcement step: groups in, one or more optimizer steps out.
//!
//! Each optimizer batch is one forest, cut into shards. Its log-probabilities go to the pure
//! objective as one batch, and the coefficients that come back go through the model. A token that several completions
//! share is one edge, which receives the sum of their coefficients.

mod forest;
mod information;
mod passes;
mod report;

pub use report::ReinforceReport;

use crate::{
    cost::Cost,
    forest::Forest,
    kernels::score::{Law, Measured, measure},
    memory::MemoryError,
    model::Model,
    optimizer::AdamWSettings,
    parameters::Parameters,
    schedule::Schedule,
    training::{Scored, Training},
};
use candle_core::Result;
use forest::GroupForest;
use information::Informant;
use passes::Cut;
use rayon::prelude::*;
use report::Tally;
use riser_core::{
    digest::Digest,
    group::RolloutGroup,
    ids::{ItemIndex, PolicyVersion},
    information::{ItemPrior, Popularity},
    logprob_space::LogprobSpace,
    objective::{self, ObjectiveConfig, ObjectiveError},
    prefix_tree::PrefixTree,
    snapshot::{PolicyIdentity, PolicySnapshot, SnapshotError, TensorDtype},
};

/// Of so many groups one is scored by the reference policy although only the log asks for it: the penalty looks at the few
/// groups with a hit and a miss, and the log would otherwise know the divergence of these alone.
const REFERENCE_SAMPLE: usize = 16;

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
    /// Most bytes of training, see [`crate::memory`]; on the CPU only.
    pub memory_limit: Option<usize>,
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
    /// The objective weighs tokens by the popularity of the catalog's items, and that was not counted.
    #[error("the popularity of the items of catalog {catalog} was not counted")]
    NoPopularity {
        /// The catalog.
        catalog: Digest,
    },
    /// Not even one tree fits.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The parts of a step, in order; all but the objective and the update may come once per pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Groups become forests.
    Forest,
    /// Log-probabilities of all edges.
    Forward,
    /// Whole-vocabulary quantities for the log, and the reference policy's log-probabilities.
    Measure,
    /// The loss and its derivative.
    Objective,
    /// Gradients of the parameters.
    Backward,
    /// The optimizer.
    Update,
}

/// The policy in reinforcement training.
#[derive(Debug)]
pub struct Reinforce {
    settings: ReinforceSettings,
    training: Training,
    /// The frozen policy of the divergence penalty: the supervised checkpoint.
    reference: Option<Model>,
    /// What the mask knows of the catalog's items, where it asks for that.
    prior: ItemPrior,
}

impl Reinforce {
    /// Goes on with `training`; `reference` is only kept if the objective asks for it.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn new(training: Training, reference: &Parameters, settings: ReinforceSettings) -> Result<Self> {
        let needed = settings.objective.needs_reference();
        let reference = if needed { Some(reference.duplicate()?.inference_model()?) } else { None };
        Ok(Self { settings, training, reference, prior: ItemPrior::Uniform })
    }

    /// The policy in training.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// Prepares for steps with `catalog`: `chosen` are its items that training rows chose, as often as they did. Without this
    /// an objective that asks for the popularity of items cannot take a step; for any other it does nothing.
    pub fn adopt(&mut self, catalog: &PrefixTree, chosen: impl Iterator<Item = ItemIndex>) {
        if self.settings.objective.needs_popularity() {
            let smoothing = self.settings.objective.mask.smoothing;
            self.prior = ItemPrior::Popularity(Popularity::count(catalog, chosen, smoothing));
        }
    }

    /// The policy as it is served, see [`Training::serve`].
    ///
    /// # Errors
    /// As there.
    pub fn serve(
        &mut self,
        version: PolicyVersion,
        dtype: TensorDtype,
    ) -> std::result::Result<(PolicyIdentity, PolicySnapshot), SnapshotError> {
        self.training.serve(version, dtype)
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
        self.watched_step(catalog, groups, &mut |_| {})
    }

    /// [`step`](Self::step) that calls `ended` at the end of every phase, for those who have a clock.
    ///
    /// # Errors
    /// [`ReinforceError`].
    pub fn watched_step(
        &mut self,
        catalog: &PrefixTree,
        groups: &[RolloutGroup],
        ended: &mut dyn FnMut(Phase),
    ) -> std::result::Result<ReinforceReport, ReinforceError> {
        if self.settings.objective.needs_popularity() {
            let known = matches!(&self.prior, ItemPrior::Popularity(it) if it.catalog() == catalog.digest());
            if !known {
                return Err(ReinforceError::NoPopularity { catalog: catalog.digest() });
            }
        }
        let mut tally = Tally::new(groups);
        let size = groups.len().div_ceil(self.settings.minibatches).max(1);
        for minibatch in groups.chunks(size) {
            self.minibatch(catalog, minibatch, &mut tally, ended)?;
        }
        Ok(tally.report())
    }

    /// The groups as the objective reads them, scored by the present policy and, where it is asked for, the reference.
    ///
    /// # Errors
    /// [`ReinforceError`].
    pub fn scored(
        &self,
        catalog: &PrefixTree,
        groups: &[RolloutGroup],
    ) -> std::result::Result<Vec<objective::Group>, ReinforceError> {
        let Cut { shards, passes, per_shard } = self.cut(catalog, groups)?;
        let mut batch = vec![];
        for pass in passes {
            let shards = &shards[pass.shards];
            for (shard, scored) in shards.iter().zip(self.forward(shards, false)?) {
                batch.extend(shard.objective_groups(catalog, scored.logprobs(), &self.informant(shard, &scored)?));
            }
        }
        self.add_reference(catalog, groups, per_shard, &mut batch)?;
        Ok(batch)
    }

    /// What a step on `groups` costs.
    pub fn cost(&self, catalog: &PrefixTree, groups: &[RolloutGroup]) -> Cost {
        let mut cost = Cost::default();
        let per_shard = self.rows_per_shard();
        for shard in self.shards(catalog, &groups.iter().collect::<Vec<_>>(), per_shard) {
            cost += Cost::of(&shard.forest, self.training.parameters().shape(), self.settings.space);
        }
        cost
    }

    /// One optimizer step.
    fn minibatch(
        &mut self,
        catalog: &PrefixTree,
        groups: &[RolloutGroup],
        tally: &mut Tally,
        ended: &mut dyn FnMut(Phase),
    ) -> std::result::Result<(), ReinforceError> {
        let objective = self.settings.objective;
        let Cut { shards, passes, per_shard } = self.cut(catalog, groups)?;
        ended(Phase::Forest);
        let mut batch = vec![];
        let mut kept: Option<Vec<Scored>> = None;
        // What a single pass leaves is still there for the backward pass; several would not fit in memory.
        let is_single = passes.len() == 1;
        for pass in &passes {
            let shards = &shards[pass.shards.clone()];
            let scored = self.forward(shards, is_single && pass.keeps_exponentials)?;
            ended(Phase::Forward);
            for (shard, scored) in shards.iter().zip(&scored) {
                tally.forward(shard, self.whole_vocabulary(shard, scored, tally.measured())?.as_ref());
            }
            for (shard, scored) in shards.iter().zip(&scored) {
                batch.extend(shard.objective_groups(catalog, scored.logprobs(), &self.informant(shard, scored)?));
            }
            ended(Phase::Measure);
            kept = is_single.then_some(scored);
        }
        self.add_reference(catalog, groups, per_shard, &mut batch)?;
        ended(Phase::Measure);
        let outcome = objective::evaluate(&objective, &batch)?;
        ended(Phase::Objective);
        let mut first = 0;
        for pass in passes {
            let shards = &shards[pass.shards];
            let scored = match kept.take() {
                Some(scored) => scored,
                None => self.forward(shards, pass.keeps_exponentials)?,
            };
            let coefficients = shards.iter().map(|shard| {
                let coefficients = shard.coefficients(first, &outcome);
                first += shard.groups.len();
                coefficients
            });
            let weighted = scored.into_iter().zip(coefficients).collect();
            self.training.backward_shards(weighted)?;
            ended(Phase::Backward);
        }
        let learning_rate = self.settings.schedule.at(self.training.optimizer().steps());
        let gradient_norm = self.training.update(learning_rate)?;
        ended(Phase::Update);
        tally.optimizer_step(outcome, groups.len(), gradient_norm, learning_rate);
        Ok(())
    }

    fn forward(&self, shards: &[GroupForest<'_>], keep: bool) -> Result<Vec<Scored>> {
        let forests: Vec<&Forest> = shards.iter().map(|shard| &shard.forest).collect();
        let ReinforceSettings { space, temperature, .. } = self.settings;
        self.training.forward_keeping(&forests, Law { space, temperature }, keep)
    }

    fn informant<'a>(&'a self, shard: &'a GroupForest<'_>, scored: &Scored) -> Result<Informant<'a>> {
        let ReinforceSettings { objective, temperature, .. } = &self.settings;
        let model = self.training.inference_model();
        Informant::of(objective, &self.prior, model, &shard.forest, scored, *temperature)
    }

    /// Lets the reference policy score the groups whose loss looks at it, and a few more for the log.
    fn add_reference(
        &self,
        catalog: &PrefixTree,
        groups: &[RolloutGroup],
        per_shard: usize,
        batch: &mut [objective::Group],
    ) -> Result<()> {
        let Some(reference) = &self.reference else {
            return Ok(());
        };
        let mut wanted: Vec<bool> = (0..batch.len()).map(|place| place.is_multiple_of(REFERENCE_SAMPLE)).collect();
        objective::passing(batch).into_iter().for_each(|place| wanted[place] = true);
        let (groups, mut batch): (Vec<_>, Vec<_>) =
            groups.iter().zip(batch).zip(wanted).filter(|(_, wanted)| *wanted).map(|(pair, _)| pair).unzip();
        let shards = self.shards(catalog, &groups, per_shard);
        let ReinforceSettings { space, temperature, .. } = self.settings;
        let of_shard = |shard: &GroupForest<'_>| {
            self.training.logprobs_under(reference, &shard.forest, Law { space, temperature })
        };
        // Where memory is limited there is one tape for this.
        let logprobs = match self.settings.memory_limit {
            Some(_) => shards.iter().map(of_shard).collect::<Result<Vec<_>>>()?,
            None => shards.par_iter().map(of_shard).collect::<Result<Vec<_>>>()?,
        };
        let scored = shards.iter().zip(&logprobs).flat_map(|(shard, logprobs)| shard.completions(logprobs));
        for (group, scored) in batch.iter_mut().zip(scored) {
            for (completion, logprobs) in group.completions.iter_mut().zip(scored) {
                completion.reference_logprob = logprobs;
            }
        }
        Ok(())
    }

    /// In catalog space the full softmax is not computed; for the log it is measured at the first decisions of a batch.
    fn whole_vocabulary(&self, part: &GroupForest<'_>, scored: &Scored, before: usize) -> Result<Option<Measured>> {
        const DECISIONS: usize = 64;
        let ReinforceSettings { space, temperature, .. } = self.settings;
        if space == LogprobSpace::Vocabulary || part.forest.num_edges() == 0 || before >= DECISIONS {
            return Ok(None);
        }
        let decisions = part.forest.decisions.first(DECISIONS - before);
        let hidden = scored.hidden(decisions.len())?;
        let model = self.training.inference_model();
        let law = Law { space: LogprobSpace::Vocabulary, temperature };
        Ok(Some(measure(model.kernels(), &hidden, model.head(), &decisions, law)?))
    }
}

#[cfg(test)]
mod tests;
