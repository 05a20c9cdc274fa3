//! What the supervised stage knows besides model and optimizer, and where it keeps all of it.
//!
//! ```text
//! checkpoints/
//!   step-00000500/        model and optimizer; the manifest holds the state below
//!   best/step-00000400/   the model with the lowest validation loss
//! ```

use crate::failure::Hint;
use anyhow::Context;
use riser::training_state;
use riser_policy::parameters::Parameters;
use riser_policy::sft::Sft;
use riser_store::{CheckpointFolder, Contents, FolderError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Whole checkpoints that are kept: the newest, and one to fall back to.
const KEPT: usize = 2;

const BEST: &str = "best";

/// Progress of the stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Optimizer steps taken.
    pub(super) step: u64,
    /// Lowest validation loss so far.
    best_loss: Option<f64>,
    /// Validations since the lowest loss.
    validations_since_best: u64,
}

impl State {
    /// The newest whole state under `folder` and the checkpoint it came with; the beginning if there is none.
    pub(super) fn latest(folder: &Path) -> anyhow::Result<(Self, Option<PathBuf>)> {
        let recovered = CheckpointFolder::<Self>::new(folder).recover();
        let hint = match &recovered {
            Err(FolderError::NoneWhole { .. }) => "move the folder away to begin the stage again",
            _ => "the run's folder must be readable and writable",
        };
        let recovered = recovered.hint(|| hint.to_owned())?;
        for skipped in &recovered.skipped {
            crate::output::note(format!(
                "checkpoint {} is damaged ({}); kept as {}",
                skipped.version, skipped.reason, skipped.place
            ));
        }
        let Some(newest) = recovered.newest else { return Ok((Self::default(), None)) };
        Ok((newest.manifest.about, Some(newest.path)))
    }

    /// Whether the loss has not improved for `patience` validations; never with a patience of 0.
    pub(super) fn is_out_of_patience(&self, patience: u64) -> bool {
        patience > 0 && self.validations_since_best >= patience
    }

    /// Takes note of a validation loss; says whether it is the lowest.
    pub(super) fn judge(&mut self, loss: f64) -> bool {
        let is_best = self.best_loss.is_none_or(|best| loss < best);
        if is_best {
            self.best_loss = Some(loss);
            self.validations_since_best = 0;
        } else {
            self.validations_since_best += 1;
        }
        is_best
    }

    /// Writes a checkpoint and removes old ones.
    pub(super) fn save(&self, sft: &Sft<'_>, folder: &Path) -> anyhow::Result<()> {
        let state = sft.state().context("cannot copy the state")?;
        self.write(training_state::contents(state), folder)
    }

    fn write(&self, contents: Contents, folder: &Path) -> anyhow::Result<()> {
        let mut folder = CheckpointFolder::new(folder);
        folder.write(self.step, *self, contents)?;
        folder.prune(KEPT, &[])?;
        Ok(())
    }
}

/// Where the best model lies.
pub(super) fn best(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(BEST);
    let newest = CheckpointFolder::<()>::new(&path).recover()?.newest;
    Ok(newest.with_context(|| format!("there is no model in {}", path.display()))?.path)
}

/// Keeps the model of `step` as the best one.
pub(super) fn save_best(parameters: &Parameters, step: u64, folder: &Path) -> anyhow::Result<()> {
    let mut folder = CheckpointFolder::new(folder.join(BEST));
    folder.write(step, (), training_state::model_contents(parameters)?)?;
    folder.prune(1, &[])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_validations_since_the_best_one() {
        let mut state = State::default();
        assert!(state.judge(2.0) && !state.judge(2.0) && !state.is_out_of_patience(2));
        assert!(!state.judge(3.0) && state.is_out_of_patience(2) && !state.is_out_of_patience(0));
        assert!(state.judge(1.0) && !state.is_out_of_patience(1));
    }

    #[test]
    fn the_newest_whole_checkpoint_is_found_and_a_damaged_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(State::latest(folder.path()).unwrap(), (State::default(), None));
        let state = |step| State { step, best_loss: Some(0.1 + 0.2), validations_since_best: 1 };
        for step in [90, 100, 110] {
            state(step).write(Contents::new().with_bytes("model", "weights"), folder.path()).unwrap();
        }
        let at = |step: u64| folder.path().join(format!("step-{step:08}"));
        assert!(!at(90).exists());
        assert_eq!(State::latest(folder.path()).unwrap(), (state(110), Some(at(110))));
        std::fs::write(at(110).join("model"), "WEIGHTS").unwrap();
        assert_eq!(State::latest(folder.path()).unwrap(), (state(100), Some(at(100))));
        std::fs::write(at(100).join("model"), "WEIGHTS").unwrap();
        assert!(State::latest(folder.path()).is_err());
    }
}
