//! Supervised fine-tuning: the loss is the target item's negative log-probability, in either space.
//!
//! ```text
//! L = - sum_rows sum_t log p(y_t | x, y_<t) / N        N = tokens (per token) or rows (per item)
//! ```
//! In catalog space this is the loss of MSL (method 4). The prompt carries no loss.

use crate::kernels::{Kernels, score::Law};
use crate::{
    checkpoint::{self, CheckpointError},
    forest::{Forest, ForestBuilder},
    model::Model,
    optimizer::{AdamW, AdamWSettings},
    parameters::Parameters,
    schedule::Schedule,
    shards,
    training::{OPTIMIZER_FILE, Training, TrainingState, logprobs},
};
use candle_core::{Device, Result};
use rayon::prelude::*;
use riser_core::{
    batch_order::BatchOrder, ids::NodeId, logprob_space::LogprobSpace, prefix_tree::PrefixTree, random::Seed,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What the summed log-probability is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// Number of target tokens in the batch, as Hugging Face trainers do.
    Token,
    /// Number of rows: nats per item.
    Item,
}

/// Settings of the supervised stage.
#[derive(Debug, Clone)]
pub struct SftSettings {
    /// Seed of the batch order.
    pub seed: Seed,
    /// Space of the loss.
    pub space: LogprobSpace,
    /// Denominator of the loss.
    pub normalise: Normalise,
    /// Rows per optimizer step.
    pub rows_per_batch: usize,
    /// Batches per length-bucketing pool; 1 switches bucketing off.
    pub pool_batches: usize,
    /// Most forest rows in one forward and backward pass; gradients are summed over passes.
    pub micro_batch_tokens: usize,
    /// Learning rate over the run.
    pub schedule: Schedule,
    /// Optimizer constants.
    pub optimizer: AdamWSettings,
}

/// One row of the supervised stage.
#[derive(Debug, Clone)]
pub struct SftExample {
    /// The history as tokens.
    pub prompt: Vec<u32>,
    /// Leaf of the item that came next.
    pub target: NodeId,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SftReport {
    /// The step, counted from 1.
    pub step: u64,
    /// The loss that was minimised.
    pub loss: f64,
    /// Negative log-probability per item in nats, whatever the denominator of the loss.
    pub nats_per_item: f64,
    /// Gradient norm before clipping.
    pub gradient_norm: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Prompt and target tokens of the batch, each row counted whole.
    pub tokens: u64,
}

/// The supervised stage, step by step.
#[derive(Debug)]
pub struct Sft<'d> {
    catalog: &'d PrefixTree,
    examples: &'d [SftExample],
    settings: SftSettings,
    order: BatchOrder,
    training: Training,
}

impl<'d> Sft<'d> {
    /// Starts from `parameters` at step 0.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn new(
        parameters: Parameters,
        catalog: &'d PrefixTree,
        examples: &'d [SftExample],
        settings: SftSettings,
    ) -> Result<Self> {
        let training = Training::new(parameters, settings.optimizer)?;
        Ok(Self { order: order(catalog, examples, &settings), catalog, examples, settings, training })
    }

    /// Goes on from a folder with the files of a [`state`](Self::state); the continued run gives the same bits as an undisturbed one.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn resume(
        folder: &Path,
        device: &Device,
        catalog: &'d PrefixTree,
        examples: &'d [SftExample],
        settings: SftSettings,
    ) -> std::result::Result<Self, CheckpointError> {
        let parameters = checkpoint::load(folder, device)?;
        let optimizer = AdamW::load(&folder.join(OPTIMIZER_FILE), &parameters, settings.optimizer)?;
        let content =
            |error: candle_core::Error| CheckpointError::Content { path: folder.to_owned(), what: error.to_string() };
        let training = Training::resume(parameters, optimizer).map_err(content)?;
        Ok(Self { order: order(catalog, examples, &settings), catalog, examples, settings, training })
    }

    /// A copy of everything that the next step depends on.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn state(&self) -> Result<TrainingState> {
        self.training.state()
    }

    /// Optimizer steps taken.
    pub fn step_count(&self) -> u64 {
        self.training.optimizer().steps()
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &Parameters {
        self.training.parameters()
    }

    /// A model over the present parameters.
    pub fn model(&self) -> &Model {
        self.training.inference_model()
    }

    /// Takes one optimizer step.
    ///
    /// # Errors
    /// Whatever candle reports; a gradient that is not finite.
    pub fn step(&mut self) -> Result<SftReport> {
        let step = self.step_count();
        let rows: Vec<&SftExample> = self.order.batch(step).iter().map(|&row| &self.examples[row as usize]).collect();
        let lengths = |example: &&SftExample| self.catalog.nodes_to(example.target).len() - 1;
        let denominator = match self.settings.normalise {
            Normalise::Token => rows.iter().map(lengths).sum::<usize>(),
            Normalise::Item => rows.len(),
        } as f64;
        let tokens: usize = rows.iter().map(|example| example.prompt.len() + lengths(example)).sum();
        let mut total = 0.0;
        let (space, kernels) = (self.settings.space, self.model().kernels());
        for forests in forests(self.catalog, space, &rows, self.settings.micro_batch_tokens, kernels) {
            let shards: Vec<&Forest> = forests.iter().collect();
            let mut weighted = vec![];
            for scored in self.training.forward_shards(&shards, space, 1.0)? {
                let logprobs = scored.logprobs();
                total -= logprobs.iter().map(|&logprob| f64::from(logprob)).sum::<f64>();
                // Every edge of a row's own chain belongs to its target, so all have the same coefficient.
                let coefficients = vec![(-1.0 / denominator) as f32; logprobs.len()];
                weighted.push((scored, coefficients));
            }
            self.training.backward_shards(weighted)?;
        }
        let learning_rate = self.settings.schedule.at(step);
        let gradient_norm = self.training.update(learning_rate)?;
        Ok(SftReport {
            step: step + 1,
            loss: total / denominator,
            nats_per_item: total / rows.len() as f64,
            gradient_norm,
            learning_rate,
            tokens: tokens as u64,
        })
    }
}

fn order(catalog: &PrefixTree, examples: &[SftExample], settings: &SftSettings) -> BatchOrder {
    let length = |example: &SftExample| (example.prompt.len() + catalog.nodes_to(example.target).len() - 1) as u32;
    let lengths = examples.iter().map(length).collect();
    BatchOrder::new(settings.seed, lengths, settings.rows_per_batch, settings.pool_batches)
}

/// Cuts rows into micro-batches of about `budget` forest rows, and each of these into shards.
fn forests<'r>(
    catalog: &'r PrefixTree,
    space: LogprobSpace,
    rows: &'r [&SftExample],
    budget: usize,
    kernels: Kernels,
) -> impl Iterator<Item = Vec<Forest>> + use<'r> {
    let lengths: Vec<usize> =
        rows.iter().map(|row| row.prompt.len() + catalog.nodes_to(row.target).len() - 1).collect();
    let per_shard = shards::rows_per_shard(budget, kernels);
    shards::cut(&lengths, budget).into_iter().map(move |micro_batch| {
        let shards = shards::cut(&lengths[micro_batch.clone()], per_shard);
        let rows = &rows[micro_batch];
        shards.into_par_iter().map(|shard| forest(catalog, space, &rows[shard])).collect()
    })
}

fn forest(catalog: &PrefixTree, space: LogprobSpace, rows: &[&SftExample]) -> Forest {
    let mut builder = ForestBuilder::new(catalog, space);
    for row in rows {
        builder.tree(&row.prompt, &[row.target]);
    }
    builder.build()
}

/// Mean negative log-probability of the target items in nats, without training.
///
/// # Errors
/// Whatever candle reports.
pub fn nats_per_item(
    model: &Model,
    catalog: &PrefixTree,
    space: LogprobSpace,
    examples: &[SftExample],
    micro_batch_tokens: usize,
) -> Result<f64> {
    let rows: Vec<&SftExample> = examples.iter().collect();
    let mut total = 0.0;
    for forests in forests(catalog, space, &rows, micro_batch_tokens, model.kernels()) {
        let of_shard = |forest: &Forest| logprobs(model, forest, Law { space, temperature: 1.0 });
        let of_shards: Vec<Vec<f32>> = forests.par_iter().map(of_shard).collect::<Result<_>>()?;
        total -= of_shards.into_iter().flatten().map(f64::from).sum::<f64>();
    }
    Ok(total / examples.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exact::item_logprobs,
        schedule::Decay,
        testing::{tiny_catalog, tiny_shape},
    };
    use riser_core::ids::ItemIndex;

    fn settings(space: LogprobSpace, micro_batch_tokens: usize) -> SftSettings {
        SftSettings {
            seed: Seed(1),
            space,
            normalise: Normalise::Item,
            rows_per_batch: 5,
            pool_batches: 2,
            micro_batch_tokens,
            schedule: Schedule { peak: 0.01, warmup_steps: 2, total_steps: 40, decay: Decay::Cosine },
            optimizer: AdamWSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.01, clip: Some(1.0) },
        }
    }

    fn examples(catalog: &PrefixTree) -> Vec<SftExample> {
        // The last prompt token decides the item: learnable.
        let example =
            |i: u32| SftExample { prompt: vec![1, 3 + i % 7, 12 + i % 10], target: catalog.leaf_of(ItemIndex(i % 10)) };
        (0..40).map(example).collect()
    }

    fn start<'d>(catalog: &'d PrefixTree, examples: &'d [SftExample], settings: SftSettings) -> Sft<'d> {
        let parameters = Parameters::initialise(&tiny_shape(), Seed(1), &Device::Cpu).unwrap();
        Sft::new(parameters, catalog, examples, settings).unwrap()
    }

    #[test]
    fn the_reported_loss_is_the_exact_negative_log_probability() {
        let catalog = tiny_catalog();
        let examples = examples(&catalog);
        for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
            let mut sft = start(&catalog, &examples, settings(space, 1000));
            let of_row = |example: &SftExample| {
                let item = catalog.items_at(example.target)[0];
                -item_logprobs(sft.model(), &catalog, &example.prompt, space, 1.0).unwrap()[item.0 as usize]
            };
            let batch = sft.order.clone().batch(0).to_vec();
            let expected: f32 = batch.iter().map(|&row| of_row(&examples[row as usize])).sum::<f32>() / 5.0;
            let report = sft.step().unwrap();
            assert!((report.loss - f64::from(expected)).abs() < 1e-4, "{} instead of {expected}", report.loss);
        }
    }

    #[test]
    fn training_learns_and_micro_batches_change_nothing_but_rounding() {
        let catalog = tiny_catalog();
        let examples = examples(&catalog);
        for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
            let run = |limit| {
                let mut sft = start(&catalog, &examples, settings(space, limit));
                (0..40).map(|_| sft.step().unwrap().loss).collect::<Vec<_>>()
            };
            let (whole, pieces) = (run(10_000), run(40));
            assert!(whole[39] < 0.6 * whole[0], "loss went from {} to {}", whole[0], whole[39]);
            assert!(whole.iter().zip(&pieces).all(|(a, b)| (a - b).abs() < 1e-2), "{whole:?} {pieces:?}");
        }
    }

    #[test]
    fn an_interrupted_run_gives_the_same_bits() {
        let (catalog, folder) = (tiny_catalog(), tempfile::tempdir().unwrap());
        let examples = examples(&catalog);
        let settings = settings(LogprobSpace::Catalog, 1000);
        let mut whole = start(&catalog, &examples, settings.clone());
        for _ in 0..20 {
            whole.step().unwrap();
        }
        let mut first = start(&catalog, &examples, settings.clone());
        for _ in 0..11 {
            first.step().unwrap();
        }
        let state = first.state().unwrap();
        // Written later, while training goes on.
        first.step().unwrap();
        for file in TrainingState::FILES {
            std::fs::write(folder.path().join(file), state.bytes(file).unwrap()).unwrap();
        }
        let mut second = Sft::resume(folder.path(), &Device::Cpu, &catalog, &examples, settings).unwrap();
        for _ in 11..20 {
            second.step().unwrap();
        }
        assert_eq!(whole.parameters().digest().unwrap(), second.parameters().digest().unwrap());
    }
}
