//! The actor that writes checkpoints while training goes on.
//!
//! | | |
//! |---|---|
//! | takes | an immutable state per checkpoint that is due, from the step loop, through a slot for one |
//! | waits for | the disk; the observer and the run's event log, if their channels are full |
//! | gives | checkpoints on the disk and, through [`Uploads`], in the durable store; an event about each |
//!
//! One checkpoint is written at a time. Another that falls due meanwhile waits in the slot, and if a third comes, the newer
//! one takes its place: a checkpoint is only worth something as the newest one, and two states are all the memory this may
//! cost. A write that fails (a full disk, say) is told and forgotten, since the next one is due soon; the last write of a
//! session is the exception, and so is a version that is committed with other content: both end the run with their reason.

use crate::{
    LearnerConfig,
    activity::Activity,
    checkpoint::{CheckpointError, Folder, Manifest},
    config::{CheckpointConfig, DurableConfig},
    event::Event,
    meter,
    uploads::Uploads,
};
use riser_core::{
    ids::{Incarnation, PolicyVersion},
    run_event::RunEvent,
};
use riser_proto::offload::offload;
use riser_store::{Contents, Skipped};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Why the folder is always there.
const AT_HOME: &str = "the folder comes home unless its thread panicked, which ends the actor";

/// A checkpoint that is due.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) manifest: Manifest,
    pub(crate) contents: Contents,
}

/// The slot between the step loop and the actor.
#[derive(Debug, Default)]
struct Slot {
    /// What is due, and whether nothing more will be.
    state: Mutex<(Option<Save>, bool)>,
    changed: Notify,
}

impl Slot {
    fn update(&self, change: impl FnOnce(&mut (Option<Save>, bool))) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// The next checkpoint to write; `None` when there will be no more.
    async fn next(&self) -> Option<Save> {
        loop {
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                match (state.0.take(), state.1) {
                    (Some(save), _) => return Some(save),
                    (None, true) => return None,
                    (None, false) => {}
                }
            }
            self.changed.notified().await;
        }
    }
}

/// The way to the actor, and its end.
#[derive(Debug)]
pub(crate) struct Saver {
    slot: Arc<Slot>,
    task: AbortOnDropHandle<Result<(), CheckpointError>>,
}

impl Saver {
    /// Starts the actor; it cancels `broken` when training on is in vain. A checkpoint that the run goes on from is brought
    /// to the store if it never got there.
    pub(crate) fn start(
        checkpoints: CheckpointConfig,
        config: &LearnerConfig,
        events: mpsc::Sender<Event>,
        broken: CancellationToken,
    ) -> Self {
        let slot = Arc::new(Slot::default());
        let folder = Folder::on(config.files.clone(), checkpoints.folder).written_by(config.start);
        let durable = config.durable.clone().map(|DurableConfig { store, keep }| {
            let store = store.of_files(config.files.clone());
            DurableConfig { store, keep }
        });
        let uploads = Uploads::new(durable, events.clone(), config.activity.clone());
        let resumed = config.start_digest.filter(|_| config.durable.is_some()).map(|_| config.start_version);
        let (keep, folder) = (checkpoints.keep, Some(folder));
        let (log, learner) = (config.log.clone(), config.incarnation);
        let activity = config.activity.clone();
        let mut actor = Actor { slot: slot.clone(), folder, keep, uploads, events, log, learner, activity };
        let task = tokio::spawn(async move {
            let ended = actor.run(resumed).await;
            if ended.is_err() {
                broken.cancel();
            }
            ended
        });
        Self { slot, task: AbortOnDropHandle::new(task) }
    }

    /// Hands over a checkpoint that is due; replaces one that has not been begun.
    pub(crate) fn submit(&self, save: Save) {
        self.slot.update(|(due, _)| {
            let version = save.manifest.version.0;
            if let Some(overtaken) = due.replace(save) {
                tracing::debug!(
                    version,
                    overtaken = overtaken.manifest.version.0,
                    "checkpoint overtaken by a newer one"
                );
            }
        });
    }

    /// Waits until what was handed over is on the disk and in the store.
    ///
    /// # Errors
    /// Why the last checkpoint is not, or why training on was in vain.
    pub(crate) async fn finish(self) -> Result<(), CheckpointError> {
        self.slot.update(|(_, closed)| *closed = true);
        self.task.await?
    }
}

struct Actor {
    slot: Arc<Slot>,
    /// At home between writes, away on a blocking thread during one.
    folder: Option<Folder>,
    keep: usize,
    uploads: Uploads,
    events: mpsc::Sender<Event>,
    log: Option<mpsc::Sender<RunEvent>>,
    learner: Incarnation,
    activity: Activity,
}

impl Actor {
    async fn run(&mut self, resumed: Option<PolicyVersion>) -> Result<(), CheckpointError> {
        if let Some(version) = resumed {
            self.offer(version).await?;
        }
        let mut last = Ok(());
        loop {
            let save = tokio::select! {
                ended = self.uploads.ended() => {
                    self.uploads.settle(ended).await?;
                    continue;
                }
                save = self.slot.next() => save,
            };
            let Some(save) = save else { break };
            last = self.write(save).await;
            if last.as_ref().is_err_and(CheckpointError::is_final) {
                return last;
            }
        }
        let uploaded = self.uploads.drain().await;
        last.and(uploaded)
    }

    /// Offers a checkpoint that is on the disk already to the store.
    async fn offer(&mut self, version: PolicyVersion) -> Result<(), CheckpointError> {
        let folder = self.folder.take().expect(AT_HOME);
        let opened = offload(move || {
            let opened = folder.open(version.0);
            (folder, opened)
        });
        let (folder, opened) = opened.await?;
        self.folder = Some(folder);
        match opened {
            Ok(checkpoint) => self.uploads.offer(checkpoint),
            Err(error) => tracing::warn!(version = version.0, %error, "checkpoint that was resumed cannot be stored"),
        }
        Ok(())
    }

    async fn write(&mut self, save: Save) -> Result<(), CheckpointError> {
        let Save { manifest, contents } = save;
        let (version, keep, needed) = (manifest.version, self.keep, self.uploads.needed());
        let mut folder = self.folder.take().expect(AT_HOME);
        let started = Instant::now();
        let work = offload(move || {
            let written = folder.write(version.0, manifest, contents);
            // Nothing is removed before the new one is there.
            let pruned = written.is_ok().then(|| folder.prune(keep, &needed));
            (folder, written, pruned)
        });
        let (folder, written, pruned) = work.await?;
        self.folder = Some(folder);
        match pruned.transpose() {
            Ok(skipped) => self.tell_skipped(skipped.unwrap_or_default()).await,
            Err(error) => tracing::warn!(%error, "old checkpoints stay"),
        }
        match written {
            Ok(checkpoint) => {
                meter::saved(version, started.elapsed());
                let path: PathBuf = checkpoint.path.clone();
                tracing::info!(version = version.0, folder = %path.display(), "checkpoint written");
                if let Some(log) = &self.log {
                    let (learner, folder) = (self.learner, path.clone());
                    // Nobody has to keep a log.
                    let _ = log.send(RunEvent::Checkpoint { learner, version, folder }).await;
                }
                self.tell(Event::Checkpoint { version, folder: path }).await;
                self.uploads.offer(checkpoint);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(version = version.0, %error, "checkpoint not written");
                self.activity.trouble("learner", &format!("checkpoint {version} not written: {error}"));
                self.tell(Event::CheckpointFailed { version, reason: error.to_string() }).await;
                Err(error.into())
            }
        }
    }

    async fn tell_skipped(&self, skipped: Vec<Skipped>) {
        for Skipped { version, place, reason } in skipped {
            self.tell(Event::CheckpointSkipped { version: PolicyVersion(version), place, reason }).await;
        }
    }

    async fn tell(&self, event: Event) {
        // Nobody has to watch.
        let _ = self.events.send(event).await;
    }
}
