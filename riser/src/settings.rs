//! From the configuration of a run to the settings of its parts, one function each.

use riser_core::config::{LossUnit, ModelConfig, RunConfig, Schedule as ScheduleKind};
use riser_core::data_folder::DataFolder;
use riser_core::ids::NodeId;
use riser_core::selection::Selection;
use riser_core::spelling::SpellingError;
use riser_policy::optimizer::AdamWSettings;
use riser_policy::reinforce::ReinforceSettings;
use riser_policy::rollout::RolloutSettings;
use riser_policy::schedule::{Decay, Schedule};
use riser_policy::sft::{Normalise, SftSettings};
use riser_policy::shape::{RotaryPrecision, Shape};

/// AdamW's constant below the root; the value of its authors.
const ADAM_EPSILON: f64 = 1e-8;

/// Standard deviation of fresh weights, as in the published Qwen2 models.
const INITIALIZER_RANGE: f64 = 0.02;

/// The shape of a model that starts from scratch on this data.
///
/// # Errors
/// [`SpellingError`] if not even the empty history fits into a prompt.
pub fn scratch_shape(model: &ModelConfig, data: &DataFolder) -> Result<Shape, SpellingError> {
    let (speller, tree) = (data.speller(), data.tree());
    let longest_item = (0..tree.num_nodes() as u32).map(|node| depth_if_leaf(data, NodeId(node))).max().unwrap_or(0);
    Ok(Shape {
        vocab_size: speller.vocab_size(),
        hidden_size: model.hidden_size,
        intermediate_size: model.intermediate_size,
        num_hidden_layers: model.num_hidden_layers,
        num_attention_heads: model.num_attention_heads,
        num_key_value_heads: model.num_key_value_heads,
        max_position_embeddings: model.max_prompt_tokens + longest_item,
        rope_theta: model.rope_theta,
        rotary_precision: RotaryPrecision::F32,
        rms_norm_eps: model.rms_norm_eps,
        tie_word_embeddings: model.tie_word_embeddings,
        initializer_range: INITIALIZER_RANGE,
        bos_token_id: speller.prompt_tokens::<&str>(&[], model.max_prompt_tokens)?.first().copied(),
        eos_token_id: Some(speller.end_token()),
    })
}

fn depth_if_leaf(data: &DataFolder, node: NodeId) -> usize {
    if data.tree().is_leaf(node) { data.tree().path(node).len() } else { 0 }
}

/// Settings of the supervised stage over `num_rows` training rows.
pub fn sft(config: &RunConfig, num_rows: usize) -> SftSettings {
    let sft = &config.sft;
    SftSettings {
        seed: config.seed,
        space: sft.space,
        normalise: match sft.normalise {
            LossUnit::Token => Normalise::Token,
            LossUnit::Item => Normalise::Item,
        },
        rows_per_batch: sft.rows_per_batch,
        pool_batches: sft.pool_batches,
        micro_batch_tokens: sft.micro_batch_tokens,
        schedule: Schedule {
            peak: sft.learning_rate,
            warmup_steps: sft.warmup_steps,
            total_steps: sft_steps(config, num_rows),
            decay: decay(sft.schedule),
        },
        optimizer: AdamWSettings {
            betas: (sft.betas[0], sft.betas[1]),
            eps: ADAM_EPSILON,
            weight_decay: sft.weight_decay,
            clip: Some(sft.clip),
        },
    }
}

/// Optimizer steps of the supervised stage: as given, or enough for the given number of passes.
pub fn sft_steps(config: &RunConfig, num_rows: usize) -> u64 {
    let steps_per_epoch = num_rows as f64 / config.sft.rows_per_batch as f64;
    match (config.sft.steps, config.sft.epochs) {
        (Some(steps), _) => steps,
        (None, Some(epochs)) => (epochs * steps_per_epoch).ceil().max(1.0) as u64,
        (None, None) => riser_core::config::DEFAULT_SFT_STEPS,
    }
}

/// How groups are sampled.
pub fn rollout(config: &RunConfig) -> RolloutSettings {
    let rollout = &config.rollout;
    RolloutSettings {
        seed: config.seed,
        space: config.objective.space,
        temperature: rollout.temperature as f32,
        samples: rollout.samples,
        selection: Selection {
            group: rollout.group,
            pick: rollout.pick,
            fill: rollout.fill,
            keep_hit: rollout.keep_hit,
        },
        reward_hit: rollout.reward_hit as f32,
        reward_miss: rollout.reward_miss as f32,
    }
}

/// How groups are learned from.
pub fn reinforce(config: &RunConfig) -> ReinforceSettings {
    let optimizer = &config.optimizer;
    ReinforceSettings {
        objective: config.objective.switches,
        space: config.objective.space,
        temperature: config.rollout.temperature as f32,
        minibatches: optimizer.minibatches,
        micro_batch_tokens: config.train.micro_batch_tokens,
        memory_limit: config.train.memory_limit.map(|limit| usize::try_from(limit.0).unwrap_or(usize::MAX)),
        schedule: Schedule {
            peak: optimizer.learning_rate,
            warmup_steps: optimizer.warmup_steps,
            total_steps: config.train.steps * optimizer.minibatches as u64,
            decay: decay(optimizer.schedule),
        },
        optimizer: AdamWSettings {
            betas: (optimizer.betas[0], optimizer.betas[1]),
            eps: ADAM_EPSILON,
            weight_decay: optimizer.weight_decay,
            clip: Some(optimizer.clip),
        },
    }
}

fn decay(schedule: ScheduleKind) -> Decay {
    match schedule {
        ScheduleKind::Constant => Decay::Constant,
        ScheduleKind::Linear => Decay::Linear,
        ScheduleKind::Cosine => Decay::Cosine,
    }
}
