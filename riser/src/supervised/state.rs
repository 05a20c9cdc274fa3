//! What the supervised stage knows besides model and optimizer, and where it keeps all of it.
//!
//! ```text
//! checkpoints/
//!   step-00000500/   model, optimizer, state.json; renamed into place when complete, older ones deleted afterwards
//!   best/            the model with the lowest validation loss
//! ```

use anyhow::Context;
use riser_policy::parameters::Parameters;
use riser_policy::sft::Sft;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const PREFIX: &str = "step-";
const STATE: &str = "state.json";

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
    /// The newest state under `folder` and the checkpoint it came with; the beginning if there is none.
    pub(super) fn latest(folder: &Path) -> anyhow::Result<(Self, Option<PathBuf>)> {
        let Some(newest) = checkpoints(folder)?.pop() else { return Ok((Self::default(), None)) };
        let path = newest.join(STATE);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let state = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        Ok((state, Some(newest)))
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

    /// Writes a checkpoint and deletes the ones before it.
    pub(super) fn save(&self, sft: &Sft<'_>, folder: &Path) -> anyhow::Result<()> {
        let name = format!("{PREFIX}{:08}", self.step);
        let older: Vec<_> = checkpoints(folder)?.into_iter().filter(|path| !path.ends_with(&name)).collect();
        replace(&folder.join(&name), |partial| {
            sft.save(partial)?;
            Ok(fs::write(partial.join(STATE), serde_json::to_vec(self)?)?)
        })?;
        older.iter().try_for_each(|path| {
            fs::remove_dir_all(path).with_context(|| format!("cannot delete the old checkpoint {}", path.display()))
        })
    }
}

/// Where the best model lies.
pub(super) fn best(folder: &Path) -> PathBuf {
    folder.join("best")
}

/// Keeps a model as the best one.
pub(super) fn save_best(parameters: &Parameters, folder: &Path) -> anyhow::Result<()> {
    replace(&best(folder), |partial| Ok(riser_policy::checkpoint::save(parameters, partial)?))
}

/// Complete checkpoints, oldest first.
fn checkpoints(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Fills a folder under another name and moves it into place when it is complete.
fn replace(folder: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let partial = folder.with_file_name(format!(".{name}.partial"));
    let write = || -> anyhow::Result<()> {
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        fill(&partial)?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        Ok(fs::rename(&partial, folder)?)
    };
    write().with_context(|| format!("cannot write {}", folder.display()))
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
    fn the_newest_complete_checkpoint_is_found_and_a_partial_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(State::latest(folder.path()).unwrap(), (State::default(), None));
        for step in [90, 100] {
            let state = State { step, best_loss: Some(0.5), validations_since_best: 1 };
            let path = folder.path().join(format!("step-{step:08}"));
            replace(&path, |partial| Ok(fs::write(partial.join(STATE), serde_json::to_vec(&state)?)?)).unwrap();
        }
        fs::create_dir(folder.path().join(".step-00000110.partial")).unwrap();
        let (state, path) = State::latest(folder.path()).unwrap();
        assert_eq!((state.step, path), (100, Some(folder.path().join("step-00000100"))));
    }
}
