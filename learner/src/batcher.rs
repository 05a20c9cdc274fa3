//! The actor that owns the batch book.
//!
//! | | |
//! |---|---|
//! | takes | validated groups from ingest streams, requests for the next batch from the step loop, changes of catalog, mailbox of 64 |
//! | waits for | all groups of the next batch; room in the byte budget; the run's event log; a changed plan to be written down |
//! | gives | an [`Admitted`] per group; a batch ordered by group id; its position, for the coordinator |
//!
//! A group for which there is no room holds up the stream it came on, and nothing else. There is always room while the
//! step loop waits for a batch (see [`batch_book`](crate::batch_book)).

use crate::{
    batch_book::{Admission, BatchBook},
    catalogs::{CatalogSource, ChangeError},
    meter,
};
use riser_core::{
    catalog::{
        change::ChangeExtent,
        plan::{CatalogPlan, Era},
    },
    digest::Digest,
    group::RolloutGroup,
    group_set::GroupSet,
    ids::{GroupId, Incarnation},
    pacing::PacingError,
    run_event::{ArrivalFate, ArrivalRecord, Origin, RunEvent},
};
use riser_proto::{offload::offload, trace::TracePoint};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Groups that may wait for the actor; a full mailbox holds up the streams they came on.
const MAILBOX: usize = 64;

/// What the learner lets workers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestBudget {
    /// Bytes of groups that may wait for their batch before streams are held up.
    pub held_bytes: u64,
    /// Largest single group.
    pub group_bytes: u64,
    /// Most groups that a stream may have on its way; workers are told fewer as the budget fills.
    pub window: u32,
    /// Streams of groups at one time.
    pub max_streams: usize,
}

impl Default for IngestBudget {
    fn default() -> Self {
        Self { held_bytes: 1 << 30, group_bytes: 4 << 20, window: 64, max_streams: 4096 }
    }
}

/// A validated group with where it comes from.
#[derive(Debug)]
pub struct Arrival {
    /// The group.
    pub group: RolloutGroup,
    /// Who sampled it, for which lease.
    pub origin: Origin,
    /// Its size on the wire.
    pub bytes: u64,
    /// The point of a trace at which it came, if traces are made.
    pub trace: Option<TracePoint>,
}

/// A batch to train on.
#[derive(Debug)]
pub struct Batch {
    /// Its groups, ordered by id.
    pub groups: Vec<RolloutGroup>,
    /// The points of traces at which they came.
    pub traces: BTreeSet<TracePoint>,
}

/// The answer to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What became of it.
    pub result: Result<Admission, PacingError>,
    /// Groups that the sender may have on their way from now on.
    pub window: u32,
}

/// Where the book stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Batches taken out.
    pub taken: u64,
    /// Every group that has been trained on or waits.
    pub received: GroupSet,
    /// Which catalog each batch is made with.
    pub catalogs: CatalogPlan,
}

#[derive(Debug)]
enum Command {
    Admit { arrival: Box<Arrival>, reply: oneshot::Sender<Admitted> },
    Next { reply: oneshot::Sender<Batch> },
    Position { reply: oneshot::Sender<Position> },
    Change { change: Change, reply: oneshot::Sender<Result<Era, ChangeError>> },
}

/// A catalog that is to take over.
#[derive(Debug)]
struct Change {
    catalog: Digest,
    folder: PathBuf,
    asked: Option<u64>,
    extent: ChangeExtent,
    source: Arc<dyn CatalogSource>,
}

/// The actor is gone, so the role is ending.
#[derive(Debug, thiserror::Error)]
#[error("the learner is shutting down")]
pub struct Stopped;

/// The way to the actor; cheap to clone.
#[derive(Debug, Clone)]
pub struct BatcherHandle {
    commands: mpsc::Sender<Command>,
    taken: watch::Receiver<u64>,
    catalogs: watch::Receiver<CatalogPlan>,
}

impl BatcherHandle {
    /// Hands over a validated group and waits for room for it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn admit(&self, arrival: Arrival) -> Result<Admitted, Stopped> {
        self.send(|reply| Command::Admit { arrival: Box::new(arrival), reply }).await
    }

    /// Waits for the next batch. Dropping the wait loses nothing.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn next(&self) -> Result<Batch, Stopped> {
        self.send(|reply| Command::Next { reply }).await
    }

    /// Where the book stands.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn position(&self) -> Result<Position, Stopped> {
        self.send(|reply| Command::Position { reply }).await
    }

    /// Gives `catalog` of `folder` a place in the plan, from batch `asked` on or from the first that is possible, and has
    /// `source` write the plan down.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`ChangeError`] inside.
    pub async fn change(
        &self,
        catalog: Digest,
        folder: PathBuf,
        asked: Option<u64>,
        extent: ChangeExtent,
        source: Arc<dyn CatalogSource>,
    ) -> Result<Result<Era, ChangeError>, Stopped> {
        self.send(|reply| Command::Change { change: Change { catalog, folder, asked, extent, source }, reply }).await
    }

    /// Which catalog each batch is made with, as a watch.
    pub fn catalogs(&self) -> watch::Receiver<CatalogPlan> {
        self.catalogs.clone()
    }

    /// Changes whenever a batch is taken out.
    pub fn taken(&self) -> watch::Receiver<u64> {
        self.taken.clone()
    }

    async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Owns the book, whoever waits for a batch and whoever waits for room.
#[derive(Debug)]
pub struct Batcher {
    book: BatchBook,
    budget: IngestBudget,
    learner: Incarnation,
    log: mpsc::Sender<RunEvent>,
    commands: mpsc::Receiver<Command>,
    taken: watch::Sender<u64>,
    catalogs: watch::Sender<CatalogPlan>,
    waiting: Option<oneshot::Sender<Batch>>,
    /// Where in traces the groups of the book came; empty unless traces are made.
    traces: BTreeMap<GroupId, TracePoint>,
    /// Groups without room, in order of arrival; at most one per stream.
    held_up: VecDeque<(Box<Arrival>, oneshot::Sender<Admitted>)>,
}

impl Batcher {
    /// An actor and the way to it; what arrives is written to `log`.
    pub fn new(
        book: BatchBook,
        budget: IngestBudget,
        learner: Incarnation,
        log: mpsc::Sender<RunEvent>,
    ) -> (Self, BatcherHandle) {
        let (sender, commands) = mpsc::channel(MAILBOX);
        let (taken, watched) = watch::channel(book.taken());
        let (catalogs, plan) = watch::channel(book.catalogs().clone());
        let (traces, held_up) = (BTreeMap::new(), VecDeque::new());
        let batcher = Self { book, budget, learner, log, commands, taken, catalogs, waiting: None, traces, held_up };
        (batcher, BatcherHandle { commands: sender, taken: watched, catalogs: plan })
    }

    /// Serves commands until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(command)) = stop.run_until_cancelled(self.commands.recv()).await {
            match command {
                Command::Admit { arrival, reply } => self.held_up.push_back((arrival, reply)),
                Command::Next { reply } => self.waiting = Some(reply),
                Command::Position { reply } => {
                    let (taken, received) = (self.book.taken(), self.book.received().clone());
                    // Whoever asked has gone, and will ask again.
                    let _ = reply.send(Position { taken, received, catalogs: self.book.catalogs().clone() });
                }
                Command::Change { change, reply } => drop(reply.send(self.change(change).await)),
            }
            self.serve_waiting();
            while let Some((arrival, reply)) = self.next_admissible() {
                self.admit(*arrival, reply).await;
                self.serve_waiting();
            }
        }
    }

    /// Nothing else happens meanwhile: the place that the change gets in the plan is one that nobody can have been asked for.
    async fn change(&mut self, change: Change) -> Result<Era, ChangeError> {
        let Change { catalog, folder, asked, extent, source } = change;
        let plan = self.book.plan_change(catalog, folder, asked)?;
        // The batch that was taken out last may still be in front of the trainer.
        let (kept, next) = (plan.clone(), self.book.taken().saturating_sub(1));
        let kept = offload(move || source.keep(&kept, next)).await;
        kept.map_err(|error| ChangeError::Unkept(error.into()))?.map_err(ChangeError::Unkept)?;
        let era = plan.eras().last().cloned().expect("a plan has an era");
        let event = RunEvent::CatalogChanged { learner: self.learner, era: era.clone(), extent };
        // Nobody has to keep a log.
        let _ = self.log.send(event).await;
        self.book.go_on_with(plan.clone());
        self.catalogs.send_replace(plan);
        Ok(era)
    }

    /// The first group that there is room for.
    fn next_admissible(&mut self) -> Option<(Box<Arrival>, oneshot::Sender<Admitted>)> {
        let starved = self.waiting.as_ref().is_some_and(|reply| !reply.is_closed());
        let free = self.budget.held_bytes.saturating_sub(self.book.bytes());
        let place = self.held_up.iter().position(|(arrival, _)| starved || arrival.bytes <= free)?;
        self.held_up.remove(place)
    }

    async fn admit(&mut self, arrival: Arrival, reply: oneshot::Sender<Admitted>) {
        let Arrival { group, origin, bytes, trace } = arrival;
        let (id, version) = (group.id, group.version);
        let result = self.book.admit(group, bytes);
        if let (Ok(Admission::Accepted), Some(trace)) = (&result, trace) {
            self.traces.insert(id, trace);
        }
        let fate = match &result {
            Ok(Admission::Accepted) => ArrivalFate::Admitted,
            Ok(Admission::Duplicate) => ArrivalFate::Duplicate,
            Err(error) if error.is_wrong() => ArrivalFate::Rejected(error.to_string()),
            Err(error) => ArrivalFate::Untimely(error.to_string()),
        };
        meter::arrived(&fate, bytes);
        let record = ArrivalRecord { learner: self.learner, group: id, version, origin, bytes, fate };
        // Nobody has to keep a log.
        let _ = self.log.send(RunEvent::Arrival(record)).await;
        let window = self.window(bytes);
        // A stream that broke meanwhile resends the group and hears that it is a duplicate.
        let _ = reply.send(Admitted { result, window });
    }

    /// As many groups of this size as there is room for, within the limits.
    fn window(&self, bytes: u64) -> u32 {
        let free = self.budget.held_bytes.saturating_sub(self.book.bytes());
        let room = u32::try_from(free / bytes.max(1)).unwrap_or(u32::MAX);
        room.clamp(1, self.budget.window.max(1))
    }

    fn serve_waiting(&mut self) {
        // A batch is only taken out for someone who still listens.
        if let Some(reply) = self.waiting.take_if(|reply| !reply.is_closed()) {
            match self.book.take_batch() {
                Some(groups) => {
                    let traces = groups.iter().filter_map(|group| self.traces.remove(&group.id)).collect();
                    drop(reply.send(Batch { groups, traces }));
                    self.taken.send_replace(self.book.taken());
                }
                None => self.waiting = Some(reply),
            }
        }
    }
}
