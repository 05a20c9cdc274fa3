//! An immutable copy of a policy in training, for a checkpoint that is written while training goes on.

use crate::{
    checkpoint::{self, CONFIG_FILE, CheckpointError, WEIGHTS_FILE},
    optimizer::AdamW,
    parameters::Parameters,
};
use candle_core::Result;
use std::path::Path;

/// The optimizer's state inside a checkpoint.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// Parameters and optimizer at one moment. Making it costs one copy of the parameters, which updates write into; the
/// moments are shared until the next update, which copies them if they are shared still.
#[derive(Debug)]
pub struct TrainingState {
    parameters: Parameters,
    optimizer: AdamW,
}

impl TrainingState {
    /// The files that hold the state; together they are also a Hugging Face folder.
    pub const FILES: [&str; 3] = [CONFIG_FILE, WEIGHTS_FILE, OPTIMIZER_FILE];

    pub(super) fn of(parameters: &Parameters, optimizer: &AdamW) -> Result<Self> {
        Ok(Self { parameters: parameters.duplicate()?, optimizer: optimizer.clone() })
    }

    /// The bytes of one of [`FILES`](Self::FILES).
    ///
    /// # Errors
    /// [`CheckpointError`] if there is no such file, or its tensors cannot be read.
    pub fn bytes(&self, file: &str) -> std::result::Result<Vec<u8>, CheckpointError> {
        match file {
            CONFIG_FILE => Ok(checkpoint::config_bytes(&self.parameters)),
            WEIGHTS_FILE => checkpoint::weight_bytes(&self.parameters),
            OPTIMIZER_FILE => self.optimizer.to_bytes(Path::new(OPTIMIZER_FILE)),
            _ => {
                let what = "not a file of a training state".to_owned();
                Err(CheckpointError::Content { path: file.into(), what })
            }
        }
    }
}
