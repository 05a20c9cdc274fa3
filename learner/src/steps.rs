//! The actor that trains.
//!
//! | | |
//! |---|---|
//! | takes | batches from the batcher, one at a time, when it is ready for the next |
//! | waits for | all groups of the batch; the observer and the run's event log, if they are behind or their channels full |
//! | gives | policy versions to the publisher, states to be checkpointed to the saver, [`Event`]s to the observer |
//!
//! The trainer runs on a blocking thread and comes back with its result. Between two steps nobody but the batch is waited
//! for; checkpoints are written behind them. A shutdown ends the wait at once, or else the step is finished first; then
//! the last version is checkpointed and that is waited for. A version is evaluated before it is checkpointed, so a run
//! that goes on from a checkpoint has the evaluations of everything before. The last version is published once its
//! checkpoint is kept: with it the run is over for everybody else, and nobody would be left to train it again. A version is
//! checkpointed once the logs have on the disk what led to it; when they fall behind, as on a full disk, the learner pauses.

use crate::{
    LearnerConfig,
    batcher::{Batch, BatcherHandle},
    checkpoint::{self, CheckpointError},
    event::{Event, Outcome, StepReport},
    meter,
    publisher::Publisher,
    saver::{Save, Saver},
    trainer::{Metrics, Trainer, TrainerError},
};
use riser_core::{
    activity::LearnerStage,
    digest::Digest,
    group_set::GroupSet,
    ids::PolicyVersion,
    run_event::{RunEvent, StepRecord},
    snapshot::{PolicyIdentity, PolicySnapshot},
};
use riser_proto::{offload::offload, trace};
use riser_store::Skipped;
use std::{any::Any, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Steps and evaluations that a log may be behind before the learner waits for it.
const UNWRITTEN: u64 = 4;

/// Why training ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The trainer said no.
    #[error("trainer failed at version {version}: {source}")]
    Trainer {
        /// Version the trainer was at.
        version: PolicyVersion,
        /// What it said.
        source: TrainerError,
    },
    /// The trainer panicked.
    #[error("trainer panicked at version {version}: {message}")]
    Panicked {
        /// Version the trainer was at.
        version: PolicyVersion,
        /// What it said.
        message: String,
    },
    /// The trainer does not hold the policy that the checkpoint says it holds.
    #[error("trainer resumed version {version} with digest {}, its checkpoint says {}", got.short(), expected.short())]
    Resumed {
        /// The version.
        version: PolicyVersion,
        /// Digest of the trainer's policy.
        got: Digest,
        /// Digest in the checkpoint.
        expected: Digest,
    },
    /// A policy that the next batches are sampled with is not among the retained ones: the lag was raised, most likely.
    #[error("cannot resume at version {version} with lag {lag}: policy version {missing} was not retained")]
    NotRetained {
        /// Version to resume at.
        version: PolicyVersion,
        /// Lag of the schedule.
        lag: u32,
        /// The version that is missing.
        missing: u64,
    },
    /// A log has ended before it was told what led to a version.
    #[error("version {version} is not kept: a log of the run has failed")]
    Unlogged {
        /// The version.
        version: PolicyVersion,
    },
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Owns the trainer and the publisher.
pub struct Steps {
    config: LearnerConfig,
    /// The catalog that the trainer knows of.
    catalog: Option<Digest>,
    /// At home between calls, away on a blocking thread during one.
    trainer: Option<Box<dyn Trainer>>,
    publisher: Publisher,
    batches: BatcherHandle,
    events: mpsc::Sender<Event>,
    /// There while checkpoints are kept and training goes on.
    saver: Option<Saver>,
    version: PolicyVersion,
    /// The trainer's policy, in the trainer's number format; none before the first snapshot.
    policy: Option<PolicyIdentity>,
    /// The last policy of the run, until its checkpoint is kept.
    withheld: Option<PolicySnapshot>,
    log: mpsc::Sender<RunEvent>,
    /// Steps and evaluations that the logs were told of.
    told: u64,
    /// Groups trained on up to `version`.
    consumed: GroupSet,
    /// Version of the newest checkpoint that was handed over, and of the newest evaluation.
    saved: Option<PolicyVersion>,
    evaluated: Option<PolicyVersion>,
}

impl Steps {
    /// A step loop at `config.start_version`.
    pub fn new(
        config: LearnerConfig,
        trainer: Box<dyn Trainer>,
        publisher: Publisher,
        batches: BatcherHandle,
        events: mpsc::Sender<Event>,
        log: mpsc::Sender<RunEvent>,
    ) -> Self {
        let (version, consumed) = (config.start_version, config.consumed.clone());
        // What a run goes on from is there already.
        let saved = config.start_digest.map(|_| version);
        Self {
            config,
            catalog: None,
            trainer: Some(trainer),
            publisher,
            batches,
            events,
            saver: None,
            version,
            policy: None,
            withheld: None,
            log,
            told: 0,
            consumed,
            saved,
            evaluated: None,
        }
    }

    /// Trains until every batch is trained or `shutdown`.
    ///
    /// # Errors
    /// [`StepError`].
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<Outcome, StepError> {
        for Skipped { version, place, reason } in std::mem::take(&mut self.config.skipped) {
            self.emit(Event::CheckpointSkipped { version: PolicyVersion(version), place, reason }).await;
        }
        let stop = shutdown.child_token();
        if let Some(checkpoints) = self.config.checkpoints.clone() {
            self.saver = Some(Saver::start(checkpoints, &self.config, self.events.clone(), stop.clone()));
        }
        let trained = self.train(&stop).await;
        // Whatever ended training, what is being written is waited for.
        let saved = match self.saver.take() {
            Some(saver) => saver.finish().await,
            None => Ok(()),
        };
        let outcome = trained?;
        saved?;
        if let Some(last) = self.withheld.take() {
            self.publisher.publish(last);
        }
        let (learner, Outcome { version, finished, .. }) = (self.config.incarnation, outcome);
        self.note(RunEvent::LearnerEnded { learner, version, finished }).await;
        self.emit(Event::End(outcome)).await;
        Ok(outcome)
    }

    async fn train(&mut self, stop: &CancellationToken) -> Result<Outcome, StepError> {
        let (version, dtype) = (self.version, self.config.served_dtype);
        let (policy, snapshot) = self.with_trainer(move |trainer| trainer.serve(version, dtype)).await?;
        self.check_resumed(policy)?;
        self.policy = Some(policy);
        let mut digest = policy.digest;
        let (learner, catalog) = (self.config.incarnation, self.adopt().await?);
        self.note(RunEvent::LearnerStarted { learner, version, digest, catalog }).await;
        for older in std::mem::take(&mut self.config.retained) {
            self.publisher.publish(older);
        }
        match version.0 < self.config.total_batches {
            true => {
                self.publisher.publish(snapshot);
                self.check_retained()?;
            }
            // On the disk, but perhaps not in the store yet.
            false => self.withheld = Some(snapshot),
        }
        let begins = version == PolicyVersion(0) && self.config.start_digest.is_none();
        if self.config.evaluate_at_start && begins {
            self.evaluate().await?;
        }
        while self.version.0 < self.config.total_batches {
            let Some(logged) = stop.run_until_cancelled(self.logged(UNWRITTEN)).await else { break };
            logged?;
            self.config.activity.enter(LearnerStage::WaitingForGroups);
            let Some(Ok(batch)) = stop.run_until_cancelled(self.batches.next()).await else { break };
            let waited = self.config.activity.enter(LearnerStage::Stepping);
            digest = self.step(batch, waited).await?;
            if due(self.version, self.config.evaluate_every) {
                self.evaluate().await?;
            }
            if due(self.version, self.config.checkpoints.as_ref().map_or(0, |checkpoints| checkpoints.every)) {
                self.save().await?;
            }
        }
        let finished = self.version.0 >= self.config.total_batches;
        if finished && self.config.evaluate_every > 0 {
            self.evaluate().await?;
        }
        self.save().await?;
        Ok(Outcome { version: self.version, digest, finished })
    }

    /// Sees to it that the trainer knows the catalog of the next batch.
    async fn adopt(&mut self) -> Result<Digest, StepError> {
        let catalog = self.batches.catalogs().borrow().era_of(self.version.0).catalog;
        if self.catalog != Some(catalog) {
            self.with_trainer(move |trainer| trainer.adopt(catalog)).await?;
            self.catalog = Some(catalog);
        }
        Ok(catalog)
    }

    fn check_resumed(&self, policy: PolicyIdentity) -> Result<(), StepError> {
        match self.config.start_digest {
            Some(expected) if expected != policy.digest => {
                Err(StepError::Resumed { version: self.version, got: policy.digest, expected })
            }
            _ => Ok(()),
        }
    }

    /// Without every retained version, workers would wait for one that never comes.
    fn check_retained(&self) -> Result<(), StepError> {
        let (version, pacing, shelf) = (self.version, self.config.pacing, self.publisher.shelf());
        let here = |version: &u64| shelf.iter().any(|snapshot| snapshot.version().0 == *version);
        match pacing.resumed_with(version).find(|version| !here(version)) {
            Some(missing) => Err(StepError::NotRetained { version, lag: pacing.max_staleness(), missing }),
            None => Ok(()),
        }
    }

    async fn step(&mut self, batch: Batch, waited: Duration) -> Result<Digest, StepError> {
        self.adopt().await?;
        let (version, started) = (self.version, Instant::now());
        let Batch { groups: batch, traces } = batch;
        let span = tracing::info_span!("step", version = version.next().0);
        traces.into_iter().for_each(|cause| trace::link(&span, cause));
        let num_groups = batch.len();
        let groups: Vec<_> = batch.iter().map(|group| (group.id, group.version, group.catalog)).collect();
        let num_missed = batch.iter().filter(|group| !group.has_hit()).count();
        let dtype = self.config.served_dtype;
        let (metrics, (policy, snapshot)) = self
            .with_trainer(move |trainer| {
                let metrics = trainer.step(version, &batch)?;
                Ok((metrics, trainer.serve(version.next(), dtype)?))
            })
            .instrument(span)
            .await?;
        self.version = version.next();
        self.policy = Some(policy);
        // Whoever hears of the last version leaves, so it must not be lost any more by then.
        match self.version.0 < self.config.total_batches {
            true => self.publisher.publish(snapshot),
            false => self.withheld = Some(snapshot),
        }
        for (group, ..) in &groups {
            self.consumed.insert(*group);
        }
        let staleness = groups.iter().filter_map(|group| group.1.staleness_at(version)).max();
        let report = StepReport {
            version: self.version,
            staleness: staleness.unwrap_or(0),
            num_groups,
            miss_share: num_missed as f64 / num_groups as f64,
            wait_seconds: waited.as_secs_f64(),
            learn_seconds: started.elapsed().as_secs_f64(),
            metrics,
        };
        tracing::info!(
            version = self.version.0,
            wait = report.wait_seconds,
            learn = report.learn_seconds,
            "step taken"
        );
        meter::step(&report);
        let record = StepRecord {
            learner: self.config.incarnation,
            version: self.version,
            digest: policy.digest,
            groups,
            wait_seconds: report.wait_seconds,
            learn_seconds: report.learn_seconds,
            metrics: report.metrics.clone(),
        };
        self.note(RunEvent::Step(record)).await;
        self.emit(Event::Step(report)).await;
        self.told += 1;
        Ok(policy.digest)
    }

    async fn evaluate(&mut self) -> Result<(), StepError> {
        let (version, started) = (self.version, Instant::now());
        if self.evaluated.replace(version) == Some(version) {
            return Ok(());
        }
        self.config.activity.enter(LearnerStage::Evaluating);
        self.adopt().await?;
        let metrics: Metrics = self.with_trainer(move |trainer| trainer.evaluate(version)).await?;
        meter::evaluated(&metrics);
        let seconds = started.elapsed().as_secs_f64();
        let learner = self.config.incarnation;
        self.note(RunEvent::Evaluation { learner, version, metrics: metrics.clone(), seconds }).await;
        self.emit(Event::Evaluation { version, metrics, seconds }).await;
        self.told += 1;
        Ok(())
    }

    /// Hands a checkpoint over, unless that has been done for this version.
    async fn save(&mut self) -> Result<(), StepError> {
        if self.saver.is_none() || self.saved.replace(self.version) == Some(self.version) {
            return Ok(());
        }
        let Some(policy) = self.policy else { return Ok(()) };
        self.config.activity.enter(LearnerStage::Saving);
        self.logged(0).await?;
        let state = self.with_trainer(|trainer| trainer.state()).await?;
        let shelf = self.publisher.shelf();
        let (pacing, consumed) = (self.config.pacing, self.consumed.clone());
        // A change that is yet to come is no part of this version: made again later, it must be the same checkpoint.
        let catalogs = self.batches.catalogs().borrow().until(self.version.0);
        let (manifest, contents) = checkpoint::assemble(catalogs, pacing, consumed, policy, &shelf, state);
        if let Some(saver) = &self.saver {
            saver.submit(Save { manifest, contents });
        }
        Ok(())
    }

    /// Waits until the logs have written all that they were told but the last `unwritten`.
    async fn logged(&mut self, unwritten: u64) -> Result<(), StepError> {
        let (told, version) = (self.told, self.version);
        for log in &mut self.config.logs {
            log.wait_for(|written| written + unwritten >= told).await.map_err(|_| StepError::Unlogged { version })?;
        }
        Ok(())
    }

    async fn note(&mut self, event: RunEvent) {
        // Nobody has to keep a log.
        let _ = self.log.send(event).await;
    }

    async fn emit(&mut self, event: Event) {
        // Nobody has to watch.
        let _ = self.events.send(event).await;
    }

    /// Lends the trainer to a blocking thread.
    async fn with_trainer<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Trainer) -> Result<T, TrainerError> + Send + 'static,
    ) -> Result<T, StepError> {
        let version = self.version;
        let mut trainer = self.trainer.take().expect("the trainer comes home unless it panicked, which ends the loop");
        let lent = offload(move || {
            let result = work(trainer.as_mut());
            (trainer, result)
        });
        match lent.await {
            Ok((trainer, result)) => {
                self.trainer = Some(trainer);
                result.map_err(|source| StepError::Trainer { version, source })
            }
            Err(error) => {
                let message = error.try_into_panic().map_or("cancelled".into(), |panic| panic_message(&*panic));
                Err(StepError::Panicked { version, message })
            }
        }
    }
}

fn due(version: PolicyVersion, every: u64) -> bool {
    every > 0 && version.0.is_multiple_of(every)
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
