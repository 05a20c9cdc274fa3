//! The typed configuration of a run.
//!
//! [`RunConfig::resolve`] lays files, environment and flags over the defaults, checks every value and returns one
//! [`RunConfig`] that is passed by reference from then on. Nothing below the program reads the environment. A mistake
//! is a [`ConfigError`] that names the key and the [`Place`] it was written at.

mod byte_size;
mod check;
mod cluster;
mod error;
mod layers;
mod objective;
mod pacing;
mod sections;
mod store;

pub use byte_size::{ByteSize, ByteSizeError};
pub use cluster::{ClusterSection, CoordinatorAddress, HostPort, HostPortError, LearnerAddress, Security};
pub use error::{ConfigError, Conflict, Place};
pub use layers::{ENVIRONMENT_PREFIX, Sources};
pub use objective::ObjectiveSection;
pub use sections::{
    DataConfig, EvaluateConfig, EvaluationSplit, LossUnit, ModelConfig, OptimizerConfig, Prompts, RolloutConfig,
    RunConfig, Schedule, SearchMethod, SftConfig, TrainConfig, TrainSchedule,
};
pub use store::StoreConfig;

use crate::digest::Digest;
use crate::random::Seed;
use serde::Serialize;
use std::path::Path;

/// Optimizer steps of the supervised stage when neither `sft.steps` nor `sft.epochs` is given.
pub const DEFAULT_SFT_STEPS: u64 = 2500;

/// The sections that decide the result, in the order of [`RunConfig`].
#[derive(Serialize)]
struct Decisive<'a> {
    seed: &'a Seed,
    data: &'a DataConfig,
    model: &'a ModelConfig,
    sft: &'a SftConfig,
    rollout: &'a RolloutConfig,
    objective: &'a ObjectiveSection,
    optimizer: &'a OptimizerConfig,
    train: &'a TrainConfig,
    evaluate: &'a EvaluateConfig,
}

impl RunConfig {
    /// Lays the sources over the defaults, later ones over earlier ones, and checks the result.
    ///
    /// `cores` is the number of processor cores, the default of `train.workers`.
    ///
    /// # Errors
    /// [`ConfigError`] for an unreadable file, an unknown key, a value of the wrong type or outside its range, and for
    /// values that contradict each other.
    pub fn resolve(sources: &Sources, cores: usize) -> Result<Self, ConfigError> {
        let layers = layers::Layers::read(sources)?;
        let mut config = layers.merge()?;
        if config.sft.steps.is_none() && config.sft.epochs.is_none() {
            config.sft.steps = Some(DEFAULT_SFT_STEPS);
        }
        config.train.workers.get_or_insert(cores);
        check::check(&config, &|key| layers.place_of(key))?;
        Ok(config)
    }

    /// Checks every range and every pair of values that must fit together, for a configuration built in code.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), ConfigError> {
        check::check(self, &|_| None)
    }

    /// The configuration as a TOML file that resolves to itself.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every section is a table of plain values")
    }

    /// Digest of everything that decides the result; the number of workers, where they are and where checkpoints are kept do
    /// not.
    pub fn digest(&self) -> Digest {
        let mut config = self.clone();
        config.train.workers = None;
        let RunConfig { seed, data, model, sft, rollout, objective, optimizer, train, evaluate, store: _, cluster: _ } =
            &config;
        let decisive = Decisive { seed, data, model, sft, rollout, objective, optimizer, train, evaluate };
        Digest::of(toml::to_string(&decisive).expect("every section is a table of plain values").as_bytes())
    }

    /// [`digest`](Self::digest) without the places where files lie, which differ from host to host; whoever uses it must
    /// look at the digests of the files themselves.
    pub fn digest_without_places(&self) -> Digest {
        let mut config = self.clone();
        (config.data.path, config.model.init, config.train.init) = (None, None, None);
        config.digest()
    }

    /// The data folder.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if `data.path` is not set.
    pub fn data_path(&self) -> Result<&Path, ConfigError> {
        let missing = ConfigError::Missing { key: "data.path", purpose: "the folder written by `riser prepare`" };
        self.data.path.as_deref().ok_or(missing)
    }

    /// The checkpoint that reinforcement starts from.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if `train.init` is not set.
    pub fn train_init(&self) -> Result<&Path, ConfigError> {
        let missing = ConfigError::Missing { key: "train.init", purpose: "the checkpoint of the supervised stage" };
        self.train.init.as_deref().ok_or(missing)
    }
}

#[cfg(test)]
mod tests;
