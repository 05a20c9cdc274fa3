//! Copies of finished checkpoints on their way to the durable store: one at a time, the newest next.

use crate::{
    activity::Activity,
    checkpoint::{CheckpointError, Manifest},
    config::DurableConfig,
    event::Event,
};
use riser_core::ids::PolicyVersion;
use riser_store::{Checkpoint, StoreError, durable::Committed};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The uploads of one run; does nothing without a store.
pub(crate) struct Uploads {
    durable: Option<DurableConfig>,
    events: mpsc::Sender<Event>,
    activity: Activity,
    in_flight: Option<(u64, AbortOnDropHandle<Result<Committed, StoreError>>)>,
    /// Goes next; replaced by a newer one, for a copy is only worth something as the newest.
    next: Option<Checkpoint<Manifest>>,
    /// How the newest upload that ended has ended.
    last: Result<(), CheckpointError>,
}

/// An upload that has ended.
pub(crate) struct Ended {
    version: PolicyVersion,
    result: Result<Committed, CheckpointError>,
}

impl Uploads {
    pub(crate) fn new(durable: Option<DurableConfig>, events: mpsc::Sender<Event>, activity: Activity) -> Self {
        Self { durable, events, activity, in_flight: None, next: None, last: Ok(()) }
    }

    /// Takes a finished checkpoint; begins at once if nothing is on its way.
    pub(crate) fn offer(&mut self, checkpoint: Checkpoint<Manifest>) {
        if self.durable.is_some() {
            self.next = Some(checkpoint);
            self.begin();
        }
    }

    /// Versions whose files must stay on the disk.
    pub(crate) fn needed(&self) -> Vec<u64> {
        let next = self.next.as_ref().map(|checkpoint| checkpoint.manifest.version);
        self.in_flight.iter().map(|(version, _)| *version).chain(next).collect()
    }

    fn begin(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let (Some(DurableConfig { store, keep }), Some(checkpoint)) = (self.durable.clone(), self.next.take()) else {
            return;
        };
        let version = checkpoint.manifest.version;
        let upload = tokio::spawn(async move {
            let committed = store.commit(&checkpoint).await?;
            if let Err(error) = store.prune(keep).await {
                tracing::warn!(%error, "old checkpoints stay in the durable store");
            }
            Ok(committed)
        });
        self.in_flight = Some((version, AbortOnDropHandle::new(upload)));
    }

    /// Waits for the upload on its way, forever if there is none. Dropping the wait loses nothing.
    pub(crate) async fn ended(&mut self) -> Ended {
        let Some((version, upload)) = &mut self.in_flight else { return std::future::pending().await };
        let (version, result) = (PolicyVersion(*version), upload.await);
        self.in_flight = None;
        let result = match result {
            Ok(result) => result.map_err(CheckpointError::from),
            Err(panicked) => Err(panicked.into()),
        };
        Ended { version, result }
    }

    /// Tells how an upload ended and begins the next.
    ///
    /// # Errors
    /// Only if uploading on is in vain.
    pub(crate) async fn settle(&mut self, ended: Ended) -> Result<(), CheckpointError> {
        let Ended { version, result } = ended;
        self.begin();
        let event = match &result {
            Ok(_) => Event::Stored { version },
            Err(error) => {
                tracing::warn!(version = version.0, %error, "checkpoint not stored");
                self.activity.trouble("learner", &format!("checkpoint {version} not stored: {error}"));
                Event::StoreFailed { version, reason: error.to_string() }
            }
        };
        // Nobody has to watch.
        let _ = self.events.send(event).await;
        match result {
            Err(error) if error.is_final() => Err(error),
            other => {
                self.last = other.map(drop);
                Ok(())
            }
        }
    }

    /// Waits for everything.
    ///
    /// # Errors
    /// Why the last one is not in the store.
    pub(crate) async fn drain(&mut self) -> Result<(), CheckpointError> {
        while self.in_flight.is_some() {
            let ended = self.ended().await;
            self.settle(ended).await?;
        }
        std::mem::replace(&mut self.last, Ok(()))
    }
}
