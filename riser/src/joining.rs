//! What a worker on another machine is told about a run, and what it makes of it.

use crate::roles::PolicySamplers;
use crate::settings;
use riser_core::config::RunConfig;
use riser_core::digest::Digest;
use riser_policy::Device;
use riser_policy::rollout::RolloutSettings;
use riser_policy::shape::{Shape, ShapeError};
use riser_proto::join::{RunDescription, SamplingRules};

/// Why a description of a run cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// The text is not JSON.
    #[error("the run's model configuration is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The model is not one that this program knows.
    #[error("the run's model: {0}")]
    Shape(#[from] ShapeError),
}

/// Which run this is, wherever its files lie: its settings, its data and the policy it starts from.
pub fn run_digest(config: &RunConfig, data: Digest, start: Digest) -> Digest {
    let config = config.digest_without_places();
    let parts = [("config", config), ("data", data), ("start", start)];
    Digest::of_parts(parts.iter().map(|(name, digest)| (*name, &digest.as_bytes()[..])))
}

/// What a worker of the run must know.
pub fn describe(config: &RunConfig, run: Digest, shape: &Shape) -> RunDescription {
    let RolloutSettings { seed, space, temperature, samples, selection, reward_hit, reward_miss } =
        settings::rollout(config);
    let sampling = SamplingRules { seed, space, temperature, samples, selection, reward_hit, reward_miss };
    RunDescription { run, model_config: shape.to_json().to_string(), sampling }
}

/// The samplers of a worker that was told so.
///
/// # Errors
/// [`DescriptionError`].
pub fn samplers(description: &RunDescription) -> Result<PolicySamplers, DescriptionError> {
    let SamplingRules { seed, space, temperature, samples, selection, reward_hit, reward_miss } = description.sampling;
    let settings = RolloutSettings { seed, space, temperature, samples, selection, reward_hit, reward_miss };
    let shape = Shape::from_json(&serde_json::from_str(&description.model_config)?)?;
    Ok(PolicySamplers { shape, settings, device: Device::Cpu })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_worker_elsewhere_samples_with_the_settings_of_the_embedded_one() {
        let config = RunConfig::default();
        let shape = json!({"model_type": "qwen2", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6, "rope_theta": 12_345.678_9});
        let shape = Shape::from_json(&shape).unwrap();
        let made = samplers(&describe(&config, Digest::of(b"run"), &shape)).unwrap();
        assert_eq!(made.shape, shape);
        assert_eq!(format!("{:?}", made.settings), format!("{:?}", settings::rollout(&config)));
    }

    #[test]
    fn another_folder_is_the_same_run_and_another_seed_is_not() {
        let digest = |config: &RunConfig| run_digest(config, Digest::of(b"data"), Digest::of(b"start"));
        let (mut moved, mut other) = (RunConfig::default(), RunConfig::default());
        (moved.data.path, moved.train.init) = (Some("/mnt/data".into()), Some("/mnt/sft".into()));
        assert_eq!(digest(&moved), digest(&RunConfig::default()));
        other.seed.0 += 1;
        assert_ne!(digest(&other), digest(&RunConfig::default()));
        assert_ne!(run_digest(&moved, Digest::of(b"data"), Digest::of(b"data")), digest(&moved));
    }

    #[test]
    fn a_model_that_is_none_is_refused() {
        let config = RunConfig::default();
        let shape = json!({"model_type": "qwen2", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6, "rope_theta": 1e4});
        let told = describe(&config, Digest::of(b"run"), &Shape::from_json(&shape).unwrap());
        let lie = RunDescription { model_config: "{\"model_type\": \"llama\"}".to_owned(), ..told.clone() };
        assert!(matches!(samplers(&lie), Err(DescriptionError::Shape(_))));
        let lie = RunDescription { model_config: "{".to_owned(), ..told };
        assert!(matches!(samplers(&lie), Err(DescriptionError::Json(_))));
    }
}
