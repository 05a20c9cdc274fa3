//! The actor that owns the schedule.
//!
//! | | |
//! |---|---|
//! | takes | commands of the gRPC handlers, mailbox of 64 |
//! | waits for | the next command or the schedule's next deadline |
//! | gives | an answer to each command through its own channel |

use crate::{
    Counts,
    prompts::{PromptError, PromptSource, Prompts},
    registration::{Registration, RegistrationError},
    schedule::{AskId, Effect, Event, Grant, Schedule, ScheduleConfig, ScheduleError},
};
use riser_core::{
    ids::{PolicyVersion, WorkerId},
    lease::{Lease, LeaseEpoch, LeaseId},
    random::Seed,
};
use riser_proto::{
    join::LearnerPlace,
    lease::{LeaseOutcome, LeaseReply},
};
use std::{collections::HashMap, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Commands that may wait for the actor.
const MAILBOX: usize = 64;

/// What a handler asks of the actor.
#[derive(Debug)]
enum Command {
    Ask { worker: WorkerId, wait: Duration, reply: oneshot::Sender<Result<LeaseReply, ScheduleError>> },
    Renew { lease: LeaseId, epoch: LeaseEpoch, reply: oneshot::Sender<Result<(), ScheduleError>> },
    End { lease: LeaseId, epoch: LeaseEpoch, outcome: LeaseOutcome, reply: oneshot::Sender<Result<(), ScheduleError>> },
    Advance { version: PolicyVersion, reply: oneshot::Sender<Result<(), ScheduleError>> },
    Register { place: LearnerPlace, version: PolicyVersion, reply: oneshot::Sender<Result<(), RegistrationError>> },
}

/// Why the coordinator ended.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The dataset failed.
    #[error(transparent)]
    Prompt(#[from] PromptError),
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
    /// [`Stopped`] outside, [`ScheduleError::NotHeld`] inside.
    pub async fn renew(&self, lease: LeaseId, epoch: LeaseEpoch) -> Result<Result<(), ScheduleError>, Stopped> {
        self.send(|reply| Command::Renew { lease, epoch, reply }).await
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`ScheduleError::NotHeld`] inside.
    pub async fn end(
        &self,
        lease: LeaseId,
        epoch: LeaseEpoch,
        outcome: LeaseOutcome,
    ) -> Result<Result<(), ScheduleError>, Stopped> {
        self.send(|reply| Command::End { lease, epoch, outcome, reply }).await
    }

    /// Reports the learner's version.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`ScheduleError::Backwards`] or [`ScheduleError::BeyondEnd`] inside.
    pub async fn advance(&self, version: PolicyVersion) -> Result<Result<(), ScheduleError>, Stopped> {
        self.send(|reply| Command::Advance { version, reply }).await
    }

    /// Takes up a learner, or a sign of life of the one that is known.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`RegistrationError`] inside.
    pub async fn register(
        &self,
        place: LearnerPlace,
        version: PolicyVersion,
    ) -> Result<Result<(), RegistrationError>, Stopped> {
        self.send(|reply| Command::Register { place, version, reply }).await
    }

    /// The learner that has registered, as a watch.
    pub fn learner(&self) -> watch::Receiver<Option<LearnerPlace>> {
        self.learner.clone()
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

/// Owns the schedule, the prompts and the questions that wait for an answer.
pub struct CoordinatorActor {
    schedule: Schedule,
    lease_timeout: Duration,
    prompts: Prompts,
    commands: mpsc::Receiver<Command>,
    asks: HashMap<AskId, oneshot::Sender<Result<LeaseReply, ScheduleError>>>,
    next_ask: u64,
    learner: watch::Sender<Option<LearnerPlace>>,
    over: CancellationToken,
}

impl CoordinatorActor {
    /// An actor and the way to it.
    pub fn new(config: ScheduleConfig, seed: Seed, prompts: Box<dyn PromptSource>) -> (Self, CoordinatorHandle) {
        let (sender, commands) = mpsc::channel(MAILBOX);
        let (learner, registered) = watch::channel(None);
        let over = CancellationToken::new();
        let actor = Self {
            schedule: Schedule::new(config),
            lease_timeout: config.lease_timeout,
            prompts: Prompts::new(prompts, seed),
            commands,
            asks: HashMap::new(),
            next_ask: 0,
            learner,
            over: over.clone(),
        };
        (actor, CoordinatorHandle { commands: sender, learner: registered, over })
    }

    /// Serves commands until `shutdown`.
    ///
    /// # Errors
    /// [`CoordinatorError::Prompt`] if the dataset fails.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<Counts, CoordinatorError> {
        let start = Instant::now();
        loop {
            let deadline = self.schedule.next_deadline();
            let command = tokio::select! {
                () = shutdown.cancelled() => break,
                command = self.commands.recv() => command,
                () = sleep_until(start, deadline) => None,
            };
            self.handle(command, start.elapsed())?;
        }
        tracing::info!(version = self.schedule.version().0, "coordinator stopped");
        Ok(self.schedule.counts())
    }

    fn handle(&mut self, command: Option<Command>, now: Duration) -> Result<(), CoordinatorError> {
        match command {
            Some(Command::Ask { worker, wait, reply }) => {
                let ask = AskId(self.next_ask);
                self.next_ask += 1;
                self.asks.insert(ask, reply);
                let until = now + wait;
                if let Err(error) = self.apply(Event::Ask { ask, worker, until }, now)? {
                    self.answer(ask, Err(error));
                }
            }
            Some(Command::Renew { lease, epoch, reply }) => {
                let result = self.apply(Event::Renew { lease, epoch }, now)?;
                // A handler that no longer listens has lost its connection; the worker will ask again.
                let _ = reply.send(result);
            }
            Some(Command::End { lease, epoch, outcome, reply }) => {
                let event = match outcome {
                    LeaseOutcome::Done => Event::Complete { lease, epoch },
                    LeaseOutcome::Released => Event::Release { lease, epoch },
                };
                let result = self.apply(event, now)?;
                let _ = reply.send(result);
            }
            Some(Command::Advance { version, reply }) => {
                let result = self.apply(Event::Advance { version }, now)?;
                let _ = reply.send(result);
            }
            Some(Command::Register { place, version, reply }) => {
                let result = self.register(place, version, now)?;
                let _ = reply.send(result);
            }
            None => {
                // A tick is never refused.
                let _ = self.apply(Event::Tick, now)?;
            }
        }
        if self.schedule.is_done() {
            self.over.cancel();
        }
        Ok(())
    }

    fn register(
        &mut self,
        place: LearnerPlace,
        version: PolicyVersion,
        now: Duration,
    ) -> Result<Result<(), RegistrationError>, CoordinatorError> {
        let event = match Registration::judge(self.learner.borrow().as_ref(), &place) {
            Err(error) => return Ok(Err(error)),
            Ok(Registration::New) => Some(Event::Register { version }),
            // Signs of life may overtake each other.
            Ok(Registration::Known) => (version > self.schedule.version()).then_some(Event::Advance { version }),
        };
        if let Some(event) = event {
            if let Err(error) = self.apply(event, now)? {
                return Ok(Err(error.into()));
            }
            if matches!(event, Event::Register { .. }) {
                let LearnerPlace { address, incarnation } = &place;
                tracing::info!(%address, incarnation, version = version.0, "learner registered");
            }
        }
        // Leases are fenced by now, so whoever hears of the new learner works for it.
        self.learner.send_if_modified(|known| known.replace(place.clone()).is_none_or(|before| before != place));
        Ok(Ok(()))
    }

    /// Applies one event and carries out its effects; a grant that nobody listens to any more is given back at once.
    fn apply(&mut self, event: Event, now: Duration) -> Result<Result<(), ScheduleError>, CoordinatorError> {
        let mut effects = vec![];
        let result = self.schedule.apply(event, now, &mut effects);
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let (ask, reply) = match effect {
                Effect::Wait { ask } => (ask, LeaseReply::Wait),
                Effect::Done { ask } => (ask, LeaseReply::Done),
                Effect::Grant { ask, grant } => {
                    let (lease, epoch) = (grant.lease, grant.epoch);
                    let reply = LeaseReply::Work(self.fill(grant)?);
                    if !self.answer(ask, Ok(reply)) {
                        let mut more = vec![];
                        // The lease was granted a moment ago, so it is held.
                        let _ = self.schedule.apply(Event::Release { lease, epoch }, now, &mut more);
                        effects.extend(more);
                    }
                    continue;
                }
            };
            self.answer(ask, Ok(reply));
        }
        Ok(result)
    }

    fn fill(&mut self, grant: Grant) -> Result<Lease, PromptError> {
        let requests = grant.group_ids().map(|group| self.prompts.request(group)).collect::<Result<_, _>>()?;
        let Grant { lease: id, epoch, version, .. } = grant;
        Ok(Lease { id, epoch, version, timeout: self.lease_timeout, requests })
    }

    /// Answers a question; false if whoever asked is gone.
    fn answer(&mut self, ask: AskId, reply: Result<LeaseReply, ScheduleError>) -> bool {
        self.asks.remove(&ask).is_some_and(|sender| sender.send(reply).is_ok())
    }
}

async fn sleep_until(start: Instant, deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(start + deadline).await,
        None => std::future::pending().await,
    }
}
