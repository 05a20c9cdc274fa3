//! The actor that owns the batch book.
//!
//! | | |
//! |---|---|
//! | takes | validated groups from ingest streams and requests for the next batch from the step loop, mailbox of 64 |
//! | waits for | all groups of the next batch |
//! | gives | an [`Admission`] per group; a batch ordered by group id |

use crate::batch_book::{Admission, AdmissionError, BatchBook};
use riser_core::group::RolloutGroup;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Groups that may wait for the actor; a full mailbox holds up the streams they came on.
const MAILBOX: usize = 64;

#[derive(Debug)]
enum Command {
    Admit { group: Box<RolloutGroup>, reply: oneshot::Sender<Result<Admission, AdmissionError>> },
    Next { reply: oneshot::Sender<Vec<RolloutGroup>> },
}

/// The actor is gone, so the role is ending.
#[derive(Debug, thiserror::Error)]
#[error("the learner is shutting down")]
pub struct Stopped;

/// The way to the actor; cheap to clone.
#[derive(Debug, Clone)]
pub struct BatcherHandle {
    commands: mpsc::Sender<Command>,
}

impl BatcherHandle {
    /// Hands over a validated group.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`AdmissionError`] inside.
    pub async fn admit(&self, group: RolloutGroup) -> Result<Result<Admission, AdmissionError>, Stopped> {
        self.send(|reply| Command::Admit { group: Box::new(group), reply }).await
    }

    /// Waits for the next batch. Dropping the wait loses nothing.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn next(&self) -> Result<Vec<RolloutGroup>, Stopped> {
        self.send(|reply| Command::Next { reply }).await
    }

    async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Owns the book and whoever waits for a batch.
#[derive(Debug)]
pub struct Batcher {
    book: BatchBook,
    commands: mpsc::Receiver<Command>,
    waiting: Option<oneshot::Sender<Vec<RolloutGroup>>>,
}

impl Batcher {
    /// An actor and the way to it.
    pub fn new(book: BatchBook) -> (Self, BatcherHandle) {
        let (sender, commands) = mpsc::channel(MAILBOX);
        (Self { book, commands, waiting: None }, BatcherHandle { commands: sender })
    }

    /// Serves commands until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(command)) = stop.run_until_cancelled(self.commands.recv()).await {
            match command {
                Command::Admit { group, reply } => {
                    // A stream that broke meanwhile resends the group and hears that it is a duplicate.
                    let _ = reply.send(self.book.admit(*group));
                }
                Command::Next { reply } => self.waiting = Some(reply),
            }
            self.serve_waiting();
        }
    }

    fn serve_waiting(&mut self) {
        // A batch is only taken out for someone who still listens.
        if let Some(reply) = self.waiting.take_if(|reply| !reply.is_closed()) {
            match self.book.take_batch() {
                Some(batch) => drop(reply.send(batch)),
                None => self.waiting = Some(reply),
            }
        }
    }
}
