//! The folder of a run: resolved configuration, identity, metrics, checkpoints, results.
//!
//! ```text
//! config.toml      the resolved configuration; resolves to itself
//! run.json         which program, data and configuration; decides whether the folder can be resumed
//! metrics.jsonl    one event per step
//! run.db           the event log, see docs/run-database.md
//! checkpoints/     resumable states and the best model
//! evaluation.json  results of the last evaluation
//! report.html      curves and tables, written when the run ends
//! coordinator/     what a coordinator process keeps, a run folder of its own
//! ```

use crate::clock;
use crate::failure::{Hint, Usage};
use anyhow::Context;
use riser_core::atomic_file;
use riser_core::config::RunConfig;
use riser_core::digest::Digest;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the coordinator's folder inside a run folder.
pub(crate) const COORDINATOR: &str = "coordinator";

/// What a run is; two runs are the same when command, configuration, data and start are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// `sft` or `train`.
    pub(crate) command: String,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Digest of the resolved configuration.
    pub(crate) config_digest: Digest,
    /// Digest of the data folder.
    pub(crate) data_digest: Digest,
    /// Digest of the policy that a reinforcement stage starts from.
    pub(crate) start_digest: Option<Digest>,
    /// Version of the program that began the run.
    pub(crate) program_version: String,
    /// When the run began, UTC.
    pub(crate) started: String,
    /// Processor cores of the machine that began the run.
    pub(crate) cores: usize,
}

const CONFIG: &str = "config.toml";

/// The configuration of the run that `checkpoint` is the folder of; `None` for any other folder.
pub(crate) fn config_of(checkpoint: &Path) -> Option<PathBuf> {
    let path = checkpoint.join(CONFIG);
    (checkpoint.join("run.json").exists() && path.exists()).then_some(path)
}

/// An open run folder.
#[derive(Debug, Clone)]
pub(crate) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Begins a run in a new folder, or continues the same run in an existing one.
    ///
    /// # Errors
    /// If the folder holds another run, or cannot be written.
    pub(crate) fn open(
        path: &Path,
        command: &str,
        config: &RunConfig,
        data_digest: Digest,
        start_digest: Option<Digest>,
    ) -> anyhow::Result<Self> {
        let folder = Self { path: path.to_owned() };
        let identity = Identity {
            command: command.to_owned(),
            seed: config.seed.0,
            config_digest: config.digest(),
            data_digest,
            start_digest,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock::timestamp(),
            cores: crate::cli::cores(),
        };
        if folder.identity_path().exists() {
            folder.check_same(&folder.identity()?, &identity)?;
            return Ok(folder);
        }
        let foreign = |entry: std::io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() != COORDINATOR);
        if !folder.is_barely_begun() && fs::read_dir(path).is_ok_and(|mut entries| entries.any(foreign)) {
            return Err(Usage(format!("{} exists and is not a run folder", path.display())))
                .hint(|| "choose another folder with `--out`".to_owned());
        }
        fs::create_dir_all(folder.checkpoints()).with_context(|| format!("cannot create {}", path.display()))?;
        folder.write(CONFIG, &config.to_toml())?;
        folder.write("run.json", &serde_json::to_string_pretty(&identity)?)?;
        Ok(folder)
    }

    /// The run a folder holds.
    pub(crate) fn existing(path: &Path) -> anyhow::Result<Self> {
        let folder = Self { path: path.to_owned() };
        if folder.identity_path().exists() {
            return Ok(folder);
        }
        Err(Usage(format!("{} is not a run folder: it has no run.json", path.display())))
            .hint(|| "give the folder that was `--out` of `riser sft` or `riser train`".to_owned())
    }

    fn check_same(&self, found: &Identity, wanted: &Identity) -> anyhow::Result<()> {
        let path = self.path.display();
        let difference = if found.command != wanted.command {
            format!("a run of `riser {}`", found.command)
        } else if found.data_digest != wanted.data_digest {
            format!("a run on other data ({}, now {})", found.data_digest.short(), wanted.data_digest.short())
        } else if found.start_digest != wanted.start_digest {
            "a run that started from another policy".to_owned()
        } else if found.config_digest != wanted.config_digest {
            let written = self.path.join(CONFIG);
            format!("a run with another configuration, see {}", written.display())
        } else {
            return Ok(());
        };
        Err(Usage(format!("{path} already holds {difference}")))
            .hint(|| "choose another folder with `--out`; the same command and configuration would resume".to_owned())
    }

    /// What the run is.
    pub(crate) fn identity(&self) -> anyhow::Result<Identity> {
        let path = self.identity_path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where checkpoints lie.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Whether the run has ended and left its model.
    pub(crate) fn has_model(&self) -> bool {
        crate::model_folder::locate(&self.path).is_ok()
    }

    /// The metrics log.
    pub(crate) fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Writes a file of the folder as a whole: readers see the old text or the new one, also after a loss of power.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        atomic_file::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether there is nothing but what a beginning leaves that was cut short, by a signal or a full disk: an empty folder for
    /// checkpoints, which is made first, and perhaps the files before the identity, which is written last.
    fn is_barely_begun(&self) -> bool {
        let is_known = |entry: fs::DirEntry| {
            let known = [COORDINATOR, "checkpoints", CONFIG, "config.toml.partial", "run.json.partial"];
            entry.file_name().to_str().is_some_and(|name| known.contains(&name))
        };
        fs::read_dir(self.checkpoints()).is_ok_and(|mut checkpoints| checkpoints.next().is_none())
            && fs::read_dir(&self.path).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(is_known)))
    }

    fn identity_path(&self) -> PathBuf {
        self.path.join("run.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_run_reopens_its_folder_and_another_configuration_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let (config, data) = (RunConfig::default(), Digest::of(b"data"));
        RunFolder::open(&path, "sft", &config, data, None).unwrap();
        let started = RunFolder::existing(&path).unwrap().identity().unwrap().started;
        let reopened = RunFolder::open(&path, "sft", &config, data, None).unwrap();
        assert_eq!(reopened.identity().unwrap().started, started);

        let mut other = config.clone();
        other.sft.rows_per_batch += 1;
        let message = RunFolder::open(&path, "sft", &other, data, None).unwrap_err().to_string();
        assert!(message.contains("another configuration"), "{message}");
        let message = RunFolder::open(&path, "sft", &config, Digest::of(b"more"), None).unwrap_err().to_string();
        assert!(message.contains("other data"), "{message}");
        assert!(RunFolder::open(&path, "train", &config, data, None).is_err());
    }

    #[test]
    fn a_beginning_that_was_cut_short_at_any_point_is_begun_again() {
        let config = RunConfig::default();
        let open = |path: &Path| RunFolder::open(path, "sft", &config, Digest::of(b"data"), None);
        // In the order in which they are made.
        let parts = ["checkpoints/", "config.toml.partial", "config.toml", "run.json.partial"];
        for made in 0..=parts.len() {
            let parent = tempfile::tempdir().unwrap();
            for part in &parts[..made] {
                let path = parent.path().join(part);
                if part.ends_with('/') { fs::create_dir(path).unwrap() } else { fs::write(path, "cut sho").unwrap() }
            }
            let run = open(parent.path()).unwrap();
            assert_eq!(run.identity().unwrap().command, "sft", "after {made} parts");
            assert_eq!(fs::read_to_string(parent.path().join(CONFIG)).unwrap(), config.to_toml());
        }
        // Somebody's own configuration is no beginning of ours, and neither is a checkpoint without an identity.
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join(CONFIG), "").unwrap();
        assert!(open(parent.path()).is_err());
        fs::create_dir_all(parent.path().join("checkpoints/step-1")).unwrap();
        assert!(open(parent.path()).is_err());
    }

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("thesis.tex"), "").unwrap();
        assert!(RunFolder::open(parent.path(), "sft", &RunConfig::default(), Digest::of(b""), None).is_err());
    }
}
