//! The actor that owns the schedule.
//!
//! | | |
//! |---|---|
//! | takes | commands of the gRPC handlers, mailbox of 64 |
//! | waits for | the next command, the schedule's next deadline, or a catalog that is being opened |
//! | gives | an answer to each command through its own channel; what happened to leases to the run's event log |
//!
//! An answer goes out after what it is about has gone to the event log, so a slow log slows the schedule down.

use crate::{
    Counts,
    catalogs::{Catalogs, Opening, RunData, Shelf},
    overview::Overview,
    prompts::PromptError,
    reception::MemoryError,
    roll::Roll,
    schedule::{AskId, Effect, Event, Grant, Schedule, ScheduleConfig, ScheduleError},
};
use riser_core::{
    activity::LearnerActivity,
    cluster_status::ClusterStatus,
    digest::Digest,
    ids::{Incarnation, WorkerId},
    learner_report::LearnerReport,
    lease::{Claim, Lease},
    random::Seed,
    run_event::RunEvent,
};
use riser_proto::{
    access::Refusals,
    join::LearnerPlace,
    lease::{LeaseOutcome, LeaseReply},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Commands that may wait for the actor.
const MAILBOX: usize = 64;

/// Longest time that the figures stay as they are, while nothing happens or too much.
const REFRESH: Duration = Duration::from_secs(5);

/// What a handler asks of the actor.
#[derive(Debug)]
enum Command {
    Ask { worker: WorkerId, wait: Duration, reply: oneshot::Sender<Result<LeaseReply, ScheduleError>> },
    Renew { claim: Claim, reply: oneshot::Sender<Result<(), ScheduleError>> },
    End { claim: Claim, outcome: LeaseOutcome, reply: oneshot::Sender<Result<(), ScheduleError>> },
    Report { report: Report, reply: oneshot::Sender<Result<(), ScheduleError>> },
    Status { reply: oneshot::Sender<ClusterStatus> },
}

/// What the learner says.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where it stands.
    pub position: LearnerReport,
    /// Where it can be reached, if workers have to be told.
    pub place: Option<LearnerPlace>,
    /// What it is at.
    pub activity: Option<LearnerActivity>,
}

/// A question for work that waits for an answer.
#[derive(Debug)]
struct Asked {
    at: Duration,
    reply: oneshot::Sender<Result<LeaseReply, ScheduleError>>,
}

/// Why the coordinator ended.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The dataset failed.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The learner trains with another catalog than the run's.
    #[error("the learner's run begins with catalog {}, this one with another", .0.short())]
    Catalog(Digest),
    /// The end of the run cannot be kept for the next coordinator.
    #[error("cannot keep that the run is over: {0}")]
    Memory(#[source] MemoryError),
    /// The gRPC server failed.
    #[error("server of the coordinator failed: {0}")]
    Server(#[source] tonic::transport::Error),
}

/// The actor is gone, so the role is ending.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub struct Stopped;

/// The way to the actor; cheap to clone.
#[derive(Debug, Clone)]
pub struct CoordinatorHandle {
    commands: mpsc::Sender<Command>,
    learner: watch::Receiver<Option<LearnerPlace>>,
    catalogs: watch::Receiver<Shelf>,
    over: CancellationToken,
}

impl CoordinatorHandle {
    /// Asks for work, and waits for it at most `wait`.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`ScheduleError::Crowded`] inside.
    pub async fn ask(&self, worker: WorkerId, wait: Duration) -> Result<Result<LeaseReply, ScheduleError>, Stopped> {
        self.send(|reply| Command::Ask { worker, wait, reply }).await
    }

    /// Prolongs a lease.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`ScheduleError::NotHeld`] or [`ScheduleError::Unready`] inside.
    pub async fn renew(&self, claim: Claim) -> Result<Result<(), ScheduleError>, Stopped> {
        self.send(|reply| Command::Renew { claim, reply }).await
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`ScheduleError::NotHeld`] or [`ScheduleError::Unready`] inside.
    pub async fn end(&self, claim: Claim, outcome: LeaseOutcome) -> Result<Result<(), ScheduleError>, Stopped> {
        self.send(|reply| Command::End { claim, outcome, reply }).await
    }

    /// Takes the learner's report.
    ///
    /// # Errors
    /// [`Stopped`] outside; [`ScheduleError::Backwards`], [`ScheduleError::Superseded`], [`ScheduleError::Twin`] or
    /// [`ScheduleError::BeyondEnd`] inside.
    pub async fn report(&self, report: Report) -> Result<Result<(), ScheduleError>, Stopped> {
        self.send(|reply| Command::Report { report, reply }).await
    }

    /// The run at this moment.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<ClusterStatus, Stopped> {
        self.send(|reply| Command::Status { reply }).await
    }

    /// Where the learner can be reached, as a watch.
    pub fn learner(&self) -> watch::Receiver<Option<LearnerPlace>> {
        self.learner.clone()
    }

    /// The catalogs that are handed out.
    pub(crate) fn catalogs(&self) -> watch::Receiver<Shelf> {
        self.catalogs.clone()
    }

    /// Cancelled once every batch has been trained.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Owns the schedule, the catalogs with their prompts and the questions that wait for an answer.
pub struct CoordinatorActor {
    schedule: Schedule,
    incarnation: Incarnation,
    lease_timeout: Duration,
    catalogs: Catalogs,
    log: mpsc::Sender<RunEvent>,
    commands: mpsc::Receiver<Command>,
    asks: HashMap<AskId, Asked>,
    next_ask: u64,
    learner: watch::Sender<Option<LearnerPlace>>,
    overview: Overview,
    roll: Arc<Roll>,
    over: CancellationToken,
}

impl CoordinatorActor {
    /// An actor and the way to it; what happens to leases goes to `log`. `refusals` is for whoever watches.
    pub(crate) fn new(
        config: ScheduleConfig,
        seed: Seed,
        data: RunData,
        log: mpsc::Sender<RunEvent>,
        roll: Arc<Roll>,
        refusals: Refusals,
    ) -> (Self, CoordinatorHandle) {
        let (sender, commands) = mpsc::channel(MAILBOX);
        let (place, learner) = watch::channel(None);
        let over = CancellationToken::new();
        let catalogs = Catalogs::new(data, seed);
        let handle = CoordinatorHandle { commands: sender, learner, catalogs: catalogs.shelf(), over: over.clone() };
        let actor = Self {
            schedule: Schedule::new(config),
            incarnation: config.incarnation,
            lease_timeout: config.lease_timeout,
            catalogs,
            log,
            commands,
            asks: HashMap::new(),
            next_ask: 0,
            learner: place,
            overview: Overview::new(roll.clone(), refusals),
            roll,
            over,
        };
        (actor, handle)
    }

    /// Serves commands until `shutdown`.
    ///
    /// # Errors
    /// [`CoordinatorError::Prompt`] if the dataset fails, [`CoordinatorError::Memory`] if the end cannot be kept.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<Counts, CoordinatorError> {
        let (start, mut refreshed) = (Instant::now(), Duration::ZERO);
        self.tell(RunEvent::CoordinatorStarted { coordinator: self.incarnation }).await;
        loop {
            let deadline = self.schedule.next_deadline();
            let command = tokio::select! {
                () = shutdown.cancelled() => break,
                command = self.commands.recv() => Some(command),
                () = sleep_until(start, deadline) => Some(None),
                opened = self.catalogs.opened() => {
                    self.opened(opened, start.elapsed()).await?;
                    continue;
                }
                () = tokio::time::sleep(REFRESH) => None,
            };
            let now = start.elapsed();
            if let Some(command) = command {
                self.handle(command, now).await?;
            }
            // The figures go through all workers and all pending leases, which is too much for every command of a burst.
            if self.commands.is_empty() || now >= refreshed + REFRESH {
                refreshed = now;
                self.overview.refresh(&self.schedule, now);
            }
        }
        tracing::info!(version = ?self.schedule.version(), "coordinator stopped");
        Ok(self.schedule.counts())
    }

    async fn handle(&mut self, command: Option<Command>, now: Duration) -> Result<(), CoordinatorError> {
        match command {
            Some(Command::Ask { worker, wait, reply }) => {
                let ask = AskId(self.next_ask);
                self.next_ask += 1;
                self.asks.insert(ask, Asked { at: now, reply });
                let until = now + wait;
                if let Err(error) = self.apply(Event::Ask { ask, worker, until }, now).await? {
                    self.answer(ask, Err(error));
                }
            }
            Some(Command::Renew { claim, reply }) => {
                let result = self.apply(Event::Renew(claim), now).await?;
                // A handler that no longer listens has lost its connection; the worker will ask again.
                let _ = reply.send(result);
            }
            Some(Command::End { claim, outcome, reply }) => {
                let event = match outcome {
                    LeaseOutcome::Done => Event::Complete(claim),
                    LeaseOutcome::Released => Event::Release(claim),
                };
                let result = self.apply(event, now).await?;
                let _ = reply.send(result);
            }
            Some(Command::Report { report: Report { position, place, activity }, reply }) => {
                let result = self.apply(Event::Report(position.clone()), now).await?;
                if result.is_ok() {
                    self.follow(&position, now).await?;
                    self.overview.reported(&position, activity, now);
                    // The schedule has refused a learner that has been replaced, so this is the one to work for.
                    if let Some(place) = place {
                        self.locate(place);
                    }
                }
                if self.schedule.is_done() && !self.over.is_cancelled() {
                    // Before the learner knows that it was heard, and leaves: nobody else can tell the next coordinator.
                    if let Some(memory) = self.roll.memory() {
                        memory.keep_end().await.map_err(CoordinatorError::Memory)?;
                    }
                    self.tell(RunEvent::RunOver { coordinator: self.incarnation }).await;
                    self.over.cancel();
                }
                let _ = reply.send(result);
            }
            Some(Command::Status { reply }) => {
                let place = self.learner.borrow().clone();
                let _ = reply.send(self.overview.status(&self.schedule, self.incarnation, place, now));
            }
            None => {
                // A tick is never refused.
                let _ = self.apply(Event::Tick, now).await?;
            }
        }
        Ok(())
    }

    /// Takes the catalogs that the learner names.
    async fn follow(&mut self, report: &LearnerReport, now: Duration) -> Result<(), CoordinatorError> {
        if !self.catalogs.begins(&report.catalogs) {
            return Err(CoordinatorError::Catalog(report.catalogs.eras()[0].catalog));
        }
        let here = self.catalogs.follow(&report.catalogs, report.version.0);
        // What is here is never refused.
        let _ = self.apply(Event::Catalogs(here), now).await?;
        Ok(())
    }

    /// An attempt to open a catalog has ended.
    async fn opened(&mut self, opening: Opening, now: Duration) -> Result<(), CoordinatorError> {
        match opening {
            Opening::Here(catalog) => tracing::info!(catalog = catalog.short(), "catalog is open"),
            Opening::Failed { catalog, news: Some(reason) } => {
                tracing::warn!(
                    catalog = catalog.short(),
                    reason,
                    "catalog cannot be opened, batches that need it wait"
                );
                self.overview.trouble(&format!("catalog {} cannot be opened: {reason}", catalog.short()));
            }
            Opening::Failed { .. } => {}
        }
        // What could not be opened is tried again, what came may be over already.
        if let (Some(plan), Some(version)) = (self.schedule.catalogs(), self.schedule.version()) {
            let here = self.catalogs.follow(plan, version.0);
            let _ = self.apply(Event::Catalogs(here), now).await?;
        }
        Ok(())
    }

    fn locate(&self, place: LearnerPlace) {
        self.learner.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&place);
            if is_new {
                tracing::info!(address = place.address, incarnation = place.incarnation.0, "learner found");
                *known = Some(place);
            }
            is_new
        });
    }

    /// Applies one event and carries out its effects; a grant that nobody listens to any more is given back at once.
    async fn apply(&mut self, event: Event, now: Duration) -> Result<Result<(), ScheduleError>, CoordinatorError> {
        let mut effects = vec![];
        let result = self.schedule.apply(event, now, &mut effects);
        self.tell_leases(now).await;
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let (ask, reply) = match effect {
                Effect::Wait { ask } => (ask, LeaseReply::Wait),
                Effect::Done { ask } => (ask, LeaseReply::Done),
                Effect::Grant { ask, grant } => {
                    let claim = grant.claim();
                    if let Some(asked) = self.asks.get(&ask) {
                        self.overview.granted_after(now.saturating_sub(asked.at));
                    }
                    let reply = LeaseReply::Work(self.fill(grant)?);
                    if !self.answer(ask, Ok(reply)) {
                        let mut more = vec![];
                        // The lease was granted a moment ago, so it is held.
                        let _ = self.schedule.apply(Event::Release(claim), now, &mut more);
                        self.tell_leases(now).await;
                        effects.extend(more);
                    }
                    continue;
                }
            };
            self.answer(ask, Ok(reply));
        }
        Ok(result)
    }

    async fn tell_leases(&mut self, now: Duration) {
        for record in self.schedule.take_records() {
            self.overview.lease(&record, now);
            self.tell(RunEvent::Lease(record)).await;
        }
    }

    async fn tell(&mut self, event: RunEvent) {
        // Nobody has to keep a log.
        let _ = self.log.send(event).await;
    }

    fn fill(&mut self, grant: Grant) -> Result<Lease, PromptError> {
        let catalog = grant.catalog;
        let requests =
            grant.group_ids().map(|group| self.catalogs.request(catalog, group)).collect::<Result<_, _>>()?;
        let Grant { lease: id, epoch, version, .. } = grant;
        Ok(Lease { id, epoch, version, catalog, timeout: self.lease_timeout, requests })
    }

    /// Answers a question; false if whoever asked is gone.
    fn answer(&mut self, ask: AskId, reply: Result<LeaseReply, ScheduleError>) -> bool {
        self.asks.remove(&ask).is_some_and(|asked| asked.reply.send(reply).is_ok())
    }
}

async fn sleep_until(start: Instant, deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(start + deadline).await,
        None => std::future::pending().await,
    }
}
