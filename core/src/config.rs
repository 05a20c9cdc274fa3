//! The typed configuration of a run.
//!
//! [`RunConfig::resolve`] lays files, environment and flags over the defaults, checks every value and returns one
//! [`RunConfig`] that is passed by reference from then on. Nothing below the program reads the environment. A mistake
//! is a [`ConfigError`] that names the key and the [`Place`] it was written at.

mod check;
mod error;
mod layers;
mod objective;
mod pacing;
mod sections;
mod store;

pub use error::{ConfigError, Conflict, Place};
pub use layers::{ENVIRONMENT_PREFIX, Sources};
pub use objective::ObjectiveSection;
pub use sections::{
    DataConfig, EvaluateConfig, EvaluationSplit, LossUnit, ModelConfig, OptimizerConfig, Prompts, RolloutConfig,
    RunConfig, Schedule, SearchMethod, SftConfig, TrainConfig, TrainSchedule,
};
pub use store::StoreConfig;

use crate::digest::Digest;
use std::path::Path;

/// Optimizer steps of the supervised stage when neither `sft.steps` nor `sft.epochs` is given.
pub const DEFAULT_SFT_STEPS: u64 = 2500;

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

    /// Digest of everything that decides the result; the number of workers and where checkpoints are kept do not.
    pub fn digest(&self) -> Digest {
        let mut config = self.clone();
        config.train.workers = None;
        config.store = StoreConfig::default();
        Digest::of(config.to_toml().as_bytes())
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
