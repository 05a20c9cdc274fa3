//! What a reinforcement run goes on from, and where its checkpoints are kept besides its folder.

use crate::failure::Hint;
use crate::object_store;
use crate::run_folder::RunFolder;
use riser::cluster::ClusterError;
use riser_core::config::StoreConfig;
use riser_core::digest::Digest;
use riser_learner::checkpoint::CheckpointError;
use riser_learner::config::DurableConfig;
use riser_learner::recovery::{self, Recovery};
use riser_learner::steps::StepError;
use riser_learner::{LearnerError, Outcome};
use riser_store::{FolderError, StoreError};

/// The place of this run in the configured store; `None` if none is configured.
///
/// Runs below one URL are told apart by what they compute, so the same run finds its checkpoints from any machine and
/// whatever its folder is called.
pub(crate) fn durable(config: &StoreConfig, run: &RunFolder) -> anyhow::Result<Option<DurableConfig>> {
    let Some(store) = object_store::connect(config, "store.url")? else { return Ok(None) };
    let store = store.within(&identity(run)?.short());
    tracing::info!(%store, "checkpoints are copied");
    Ok(Some(DurableConfig { store, keep: config.keep }))
}

/// What the run computes.
fn identity(run: &RunFolder) -> anyhow::Result<Digest> {
    let identity = run.identity()?;
    let start = identity.start_digest.map(|digest| digest.to_string()).unwrap_or_default();
    Ok(Digest::of_parts([
        ("command", identity.command.as_bytes()),
        ("config", identity.config_digest.as_bytes()),
        ("data", identity.data_digest.as_bytes()),
        ("start", start.as_bytes()),
    ]))
}

/// Finds the newest whole checkpoint of the run, here or in the store, and says what was passed over.
pub(crate) async fn recover(run: &RunFolder, durable: Option<&DurableConfig>) -> anyhow::Result<Recovery> {
    let recovered = recovery::recover(&run.checkpoints(), durable).await;
    let hint = match &recovered {
        Ok(recovery) => {
            for skipped in &recovery.skipped {
                crate::output::note(format!(
                    "checkpoint {} is passed over ({}); kept as {}",
                    skipped.version, skipped.reason, skipped.place
                ));
            }
            String::new()
        }
        Err(CheckpointError::Folder(FolderError::NoneWhole { path, .. })) => {
            let path = path.display();
            format!("bring back a copy of {path}, or move it away to begin the stage again")
        }
        Err(CheckpointError::Store(StoreError::NoneWhole { .. })) => {
            "bring back a copy of the store, or give another `store.url` to begin the stage again".to_owned()
        }
        Err(CheckpointError::Store(_)) => {
            "check `[store]` and the credentials in the environment; without a `store.url` the run begins here"
                .to_owned()
        }
        Err(_) => "the run's folder must be readable and writable".to_owned(),
    };
    recovered.hint(|| hint)
}

/// The end of a run, with what can be done about checkpoints that could not be kept.
pub(crate) fn explained(outcome: Result<Outcome, ClusterError>) -> anyhow::Result<Outcome> {
    let hint = match &outcome {
        Err(ClusterError::Learner(LearnerError::Step(StepError::Checkpoint(error)))) => match error {
            CheckpointError::Folder(FolderError::Full { .. }) => {
                "make room and give the same command again; the run goes on from its newest checkpoint"
            }
            CheckpointError::Folder(FolderError::Diverged { .. })
            | CheckpointError::Store(StoreError::Conflict { .. }) => {
                "two learners computed different policies for one run; stop one of them, and see that both run the same \
                 program on the same data"
            }
            CheckpointError::Store(_) => {
                "the checkpoint is in the run's folder; give the same command again when the store can be reached"
            }
            _ => return Ok(outcome?),
        },
        _ => return Ok(outcome?),
    };
    outcome.hint(|| hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Usage;
    use riser_core::config::RunConfig;

    #[test]
    fn a_store_belongs_to_what_a_run_computes_and_not_to_its_folder() {
        let place = tempfile::tempdir().unwrap();
        let open = |name: &str, config: &RunConfig| {
            let (data, start) = (Digest::of(b"data"), Some(Digest::of(b"start")));
            RunFolder::open(&place.path().join(name), "train", config, data, start).unwrap()
        };
        let mut config = RunConfig::default();
        let one = identity(&open("one", &config)).unwrap();
        config.store.url = Some("file:///elsewhere".to_owned());
        assert_eq!(identity(&open("two", &config)).unwrap(), one);
        config.train.steps += 1;
        assert_ne!(identity(&open("three", &config)).unwrap(), one);
    }

    #[test]
    fn a_url_that_is_none_is_the_users_mistake() {
        let place = tempfile::tempdir().unwrap();
        let config = RunConfig::default();
        let run = RunFolder::open(&place.path().join("run"), "train", &config, Digest::of(b"data"), None).unwrap();
        assert!(durable(&config.store, &run).unwrap().is_none());
        let store = StoreConfig { url: Some("bucket/prefix".to_owned()), ..StoreConfig::default() };
        let error = durable(&store, &run).unwrap_err();
        assert!(error.chain().any(|cause| cause.is::<Usage>()), "{error:#}");
    }
}
