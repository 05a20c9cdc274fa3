//! The sections of a run's configuration and their defaults.

use crate::random::Seed;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use super::ByteSize;
use super::cluster::ClusterSection;
use super::objective::ObjectiveSection;
use super::store::StoreConfig;
use crate::logprob_space::LogprobSpace;
use crate::selection::{Fill, Pick};
use crate::snapshot::TensorDtype;

/// Everything a run depends on, resolved and checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of every random stream of the run.
    pub seed: Seed,
    /// Where the prepared data lies.
    pub data: DataConfig,
    /// What the policy starts from.
    pub model: ModelConfig,
    /// The supervised stage.
    pub sft: SftConfig,
    /// How completions are drawn.
    pub rollout: RolloutConfig,
    /// The loss of the reinforcement stage.
    pub objective: ObjectiveSection,
    /// The optimizer of the reinforcement stage.
    pub optimizer: OptimizerConfig,
    /// The reinforcement stage.
    pub train: TrainConfig,
    /// How checkpoints are measured.
    pub evaluate: EvaluateConfig,
    /// Where checkpoints are kept besides the run's folder.
    pub store: StoreConfig,
    /// Where the roles are, when each is a process of its own.
    pub cluster: ClusterSection,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            seed: Seed(42),
            data: DataConfig::default(),
            model: ModelConfig::default(),
            sft: SftConfig::default(),
            rollout: RolloutConfig::default(),
            objective: ObjectiveSection::default(),
            optimizer: OptimizerConfig::default(),
            train: TrainConfig::default(),
            evaluate: EvaluateConfig::default(),
            store: StoreConfig::default(),
            cluster: ClusterSection::default(),
        }
    }
}

/// `[data]`: where the prepared data lies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder written by `riser prepare`, relative to the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// `[model]`: a Hugging Face folder to start from, or the shape of a new Qwen2 model.
///
/// With `init` set, the folder's own `config.json` decides the shape and the shape keys here are not read.
/// Shape keys keep the names that `config.json` uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Hugging Face folder whose weights the supervised stage starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads.
    pub num_key_value_heads: usize,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: usize,
    /// Base of the rotary position frequencies.
    pub rope_theta: f64,
    /// Constant added to the variance in RMS normalisation.
    pub rms_norm_eps: f64,
    /// Whether the output head is the token embedding.
    pub tie_word_embeddings: bool,
    /// Longest prompt in tokens; older history items are dropped to fit.
    pub max_prompt_tokens: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            init: None,
            hidden_size: 128,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            intermediate_size: 384,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            max_prompt_tokens: 512,
        }
    }
}

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine down to 0 at the last step.
    Cosine,
    /// A straight line down to 0 at the last step.
    Linear,
    /// Stays where the warm-up ended.
    Constant,
}

/// What a loss is averaged over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossUnit {
    /// The target tokens of the batch, as Hugging Face trainers do.
    Token,
    /// The rows of the batch: nats per item.
    Item,
}

/// `[sft]`: the supervised stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Which softmax the loss uses.
    pub space: LogprobSpace,
    /// What the summed loss of a batch is divided by.
    pub normalise: LossUnit,
    /// Rows of one optimizer step.
    pub rows_per_batch: usize,
    /// Batches that rows of like length are sorted within; 1 switches sorting off.
    pub pool_batches: usize,
    /// Number of optimizer steps; exclusive with `epochs`. Resolution sets 2500 when neither is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Number of passes over the training rows; exclusive with `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Learning rate at the end of the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// What the learning rate does after the warm-up.
    pub schedule: Schedule,
    /// AdamW's decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Largest gradient norm; longer gradients are scaled down to it.
    pub clip: f64,
    /// Steps between validations.
    pub validate_every: u64,
    /// Validation rows per validation, the first of the split.
    pub validation_rows: usize,
    /// Validations without a better loss after which the stage ends; 0 never ends early.
    pub patience: u64,
    /// Steps between resumable checkpoints.
    pub checkpoint_every: u64,
    /// Tokens forwarded at once; a batch is cut into pieces of at most this size.
    pub micro_batch_tokens: usize,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            space: LogprobSpace::Catalog,
            normalise: LossUnit::Token,
            rows_per_batch: 32,
            pool_batches: 50,
            steps: None,
            epochs: None,
            learning_rate: 1e-3,
            warmup_steps: 100,
            schedule: Schedule::Cosine,
            betas: [0.9, 0.95],
            weight_decay: 0.01,
            clip: 1.0,
            validate_every: 250,
            validation_rows: 500,
            patience: 0,
            checkpoint_every: 500,
            micro_batch_tokens: 8192,
        }
    }
}

/// `[rollout]`: how completions are drawn, de-duplicated and rewarded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// Completions drawn for each prompt (m).
    pub samples: usize,
    /// Completions kept for each prompt (n).
    pub group: usize,
    /// Which distinct completions are kept when there are more than `group`.
    pub pick: Pick,
    /// How a group with fewer distinct completions is filled up.
    pub fill: Fill,
    /// Whether a drawn target is always kept.
    pub keep_hit: bool,
    /// Divides the logits, in the workers and in the learner.
    pub temperature: f64,
    /// Reward of the target item.
    pub reward_hit: f64,
    /// Reward of any other item.
    pub reward_miss: f64,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            samples: 20,
            group: 16,
            pick: Pick::FirstSeen,
            fill: Fill::Appearance,
            keep_hit: true,
            temperature: 1.0,
            reward_hit: 1.0,
            reward_miss: -1.0,
        }
    }
}

/// `[optimizer]`: AdamW of the reinforcement stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Learning rate at the end of the warm-up.
    pub learning_rate: f64,
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest gradient norm; longer gradients are scaled down to it.
    pub clip: f64,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// What the learning rate does after the warm-up.
    pub schedule: Schedule,
    /// Optimizer steps per rollout batch; the batch is cut into as many parts.
    pub minibatches: usize,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4,
            betas: [0.9, 0.95],
            weight_decay: 0.0,
            clip: 1.0,
            warmup_steps: 10,
            schedule: Schedule::Constant,
            minibatches: 1,
        }
    }
}

/// Which rows the prompts of the reinforcement stage come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompts {
    /// The rows set aside by `riser prepare` for this purpose.
    RlTrain,
}

/// How sampling and training keep pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainSchedule {
    /// Every batch is sampled with one given version: the same bits with any number of workers.
    Lockstep,
    /// Groups are trained on as they arrive, with a bound on their staleness: nobody waits for a slow worker.
    Bounded,
}

/// `[train]`: the reinforcement stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Checkpoint folder of the supervised stage; also the reference policy of the KL terms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Number of rollout batches.
    pub steps: u64,
    /// Prompts of one batch.
    pub groups_per_batch: usize,
    /// Prompts handed to a worker at once.
    pub groups_per_lease: usize,
    /// How sampling and training keep pace.
    pub schedule: TrainSchedule,
    /// `lockstep`: a batch is sampled with the policy of exactly this many batches ago; 0 is on-policy.
    pub lag: u64,
    /// `bounded`: a group is trained on at most this many steps after the policy that sampled it.
    pub max_staleness: u64,
    /// Rollout workers; resolution sets the number of processor cores when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Steps between evaluations.
    pub evaluate_every: u64,
    /// Rows of one evaluation, the first of the split.
    pub evaluation_rows: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Which rows the prompts come from.
    pub prompts: Prompts,
    /// Number format that workers receive policies in: `f32`, or `bf16` for half the bytes. The learner keeps f32.
    pub served_dtype: TensorDtype,
    /// Tokens forwarded at once by the learner; a batch is cut into pieces of at most this size.
    pub micro_batch_tokens: usize,
    /// Memory of the learner's training, such as `2 GiB`: a batch is cut into so many pieces that parameters, optimizer and one
    /// piece fit. Checkpoints being written, policies on their way and evaluations come on top. Without it `micro_batch_tokens`
    /// alone decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<ByteSize>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            init: None,
            steps: 200,
            groups_per_batch: 32,
            groups_per_lease: 4,
            schedule: TrainSchedule::Lockstep,
            lag: 0,
            max_staleness: 1,
            workers: None,
            evaluate_every: 20,
            evaluation_rows: 500,
            checkpoint_every: 50,
            prompts: Prompts::RlTrain,
            served_dtype: TensorDtype::F32,
            micro_batch_tokens: 8192,
            memory_limit: None,
        }
    }
}

/// How the best items are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchMethod {
    /// Best-first search: the true top K.
    Exact,
    /// Constrained beam search: may miss items; for comparison with other systems.
    Beam,
    /// The probability of every item of the catalog: the true top K, the rank of every target, the entropy over items.
    Full,
}

/// Rows a checkpoint can be measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationSplit {
    /// The validation rows.
    Valid,
    /// The rows set aside to watch reinforcement with, disjoint from its prompts.
    RlValid,
    /// The test rows.
    Test,
}

/// `[evaluate]`: how checkpoints are measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Which rows.
    pub split: EvaluationSplit,
    /// How many rows, the first of the split; 0 means all.
    pub rows: usize,
    /// Items ranked for each row.
    pub top_k: usize,
    /// How they are found.
    pub method: SearchMethod,
    /// Beams of `method = "beam"`.
    pub beam_width: usize,
    /// Which softmax ranks the items.
    pub space: LogprobSpace,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            split: EvaluationSplit::Test,
            rows: 2000,
            top_k: 50,
            method: SearchMethod::Exact,
            beam_width: 50,
            space: LogprobSpace::Catalog,
        }
    }
}
