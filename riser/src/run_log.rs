//! The thread that writes the run's event log.
//!
//! | | |
//! |---|---|
//! | takes | [`RunEvent`]s of the coordinator and the learner, channel of 1024 |
//! | waits for | the next event; then takes all that are there, up to 1024, as one transaction |
//! | gives | rows of [`run_database`](crate::run_database) |
//!
//! The roles wait when the channel is full, so no event is lost; a log that has no room waits for it ([`Room`]), one that fails
//! otherwise stops the run.

use crate::{
    room::Room,
    run_database::{FILE, RunDatabase, RunDatabaseError},
};
use riser_core::run_event::RunEvent;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, watch};

/// Events that may wait, and most of one transaction.
const BUFFER: usize = 1024;

/// A running writer.
#[derive(Debug)]
pub struct RunLog {
    writer: JoinHandle<Result<(), RunDatabaseError>>,
    written: watch::Receiver<u64>,
}

/// Why the log of a run is not complete.
#[derive(Debug, thiserror::Error)]
pub enum RunLogError {
    /// The database failed.
    #[error("event log failed: {0}")]
    Database(#[from] RunDatabaseError),
    /// The thread cannot be started.
    #[error("event log cannot be written: {0}")]
    Thread(#[from] std::io::Error),
    /// The writer panicked.
    #[error("writer of the event log panicked")]
    Panicked,
}

impl RunLog {
    /// Starts a writer; `now` says the time in seconds since 1970.
    ///
    /// The writer ends when every sender is gone.
    ///
    /// # Errors
    /// [`RunLogError::Thread`].
    pub fn start(
        mut database: RunDatabase,
        now: impl Fn() -> f64 + Send + 'static,
        room: Room,
    ) -> Result<(Self, mpsc::Sender<RunEvent>), RunLogError> {
        Self::writing(room, move |events| database.append(now(), events))
    }

    /// A writer that hands batches of events to `append`, which adds all of a batch or none.
    pub(crate) fn writing(
        room: Room,
        mut append: impl FnMut(&[RunEvent]) -> Result<(), RunDatabaseError> + Send + 'static,
    ) -> Result<(Self, mpsc::Sender<RunEvent>), RunLogError> {
        let (sender, mut events) = mpsc::channel(BUFFER);
        let (count, written) = watch::channel(0);
        let write = move || {
            let mut batch = Vec::with_capacity(BUFFER);
            while events.blocking_recv_many(&mut batch, BUFFER) > 0 {
                room.write(FILE, RunDatabaseError::is_full, || append(&batch))?;
                let counted = |event: &&RunEvent| matches!(event, RunEvent::Step(_) | RunEvent::Evaluation { .. });
                let new = batch.drain(..).filter(|event| counted(&event)).count();
                count.send_modify(|written| *written += new as u64);
            }
            Ok(())
        };
        let writer = std::thread::Builder::new().name("run log".into()).spawn(write)?;
        Ok((Self { writer, written }, sender))
    }

    /// How many steps and evaluations have been written by now.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// Waits until everything is written; every sender must be gone.
    ///
    /// # Errors
    /// [`RunLogError`].
    pub fn finish(self) -> Result<(), RunLogError> {
        self.writer.join().map_err(|_| RunLogError::Panicked)?.map_err(Into::into)
    }
}
