//! The three roles as processes, each as `riser/src/processes` runs it, with a policy that is a hash.

use super::{
    disk::CrashingDisk,
    host::{Ended, Host},
    network::Network,
    trace::Trace,
    witness::{Witness, WitnessSampler, WitnessTrainer},
};
use crate::{
    hash_policy::{self, HashSampler, HashTrainer},
    scenario::{self, SEED, Scenario},
};
use riser_coordinator::reception::{Reception, Strangers};
use riser_core::{
    digest::Digest,
    ids::Incarnation,
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
    run_event::RunEvent,
    selection::{Fill, Pick, Selection},
};
use riser_learner::{
    LearnerConfig, LearnerError, Outcome, checkpoint::CheckpointError, config::CheckpointConfig, presence::Presence,
    steps::StepError,
};
use riser_proto::{
    access::Access,
    call::{Patience, explain, is_transient, within},
    channel::{Channel, Pass, Redirect},
    join::{JoinReply, LearnerPlace, RunDescription, SamplingRules, Welcome},
    lease::millis,
    transport, v1,
};
use riser_rollout_worker::{Ending, Sampler, SamplerError, WorkerConfig, WorkerError, WorkerPlace};
use riser_store::FolderError;
use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long a peer that is away is tried again.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long one question may stay open.
const WAIT: Duration = Duration::from_secs(15);

/// How long a learner whose run has ended before tries to say so.
const FAREWELL: Duration = Duration::from_secs(20);

const GOODBYE: Duration = Duration::from_secs(5);
const COORDINATOR_PORT: u16 = 7470;
const LEARNER_PORT: u16 = 7471;

/// What all processes of a run share, and what watches them.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) checkpoint: CheckpointConfig,
    /// Whether each learner listens at a port of its own.
    pub(crate) moves: bool,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    pub(crate) disk: Arc<CrashingDisk>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) log: mpsc::Sender<RunEvent>,
}

fn description() -> RunDescription {
    let selection = Selection { group: 4, pick: Pick::FirstSeen, fill: Fill::Appearance, keep_hit: true };
    let sampling = SamplingRules {
        seed: SEED,
        space: LogprobSpace::Catalog,
        temperature: 1.0,
        samples: 4,
        selection,
        reward_hit: 1.0,
        reward_miss: 0.0,
    };
    RunDescription { run: Digest::of(b"run"), model_config: "{}".to_owned(), sampling }
}

fn access() -> Access {
    Access { run: Some(description().run), ..Access::default() }
}

/// Whether a peer's answer, or its silence, is one that faults can bring about.
fn lost(status: &Status) -> Ended {
    match is_transient(status) {
        true => Ended::Lost(explain(status)),
        false => Ended::Wrong(explain(status)),
    }
}

impl Run {
    fn to_coordinator(&self, from: Host, pass: Pass) -> Channel {
        Channel::from(self.network.channel(from, Host::COORDINATOR, COORDINATOR_PORT)).with_pass(pass)
    }

    /// The coordinator's process.
    pub(crate) async fn coordinator(self, number: u32, stop: CancellationToken) -> Ended {
        let schedule = self.scenario.schedule(number);
        let returning = (schedule.lease_timeout / 3).max(2 * Patience::default().longest_pause);
        let strangers = Strangers {
            description: description(),
            first_worker: u64::from(number - 1) * 1000 + 1,
            max_workers: 64,
            fan_out: NonZeroU32::MIN,
            silence: schedule.lease_timeout.max(Duration::from_secs(40)),
            quiet: 2 * returning,
            returning: if number > 1 { returning } else { Duration::ZERO },
            is_over: self.witness.coordinator_knows_the_end(),
        };
        let reception = Reception { access: access(), strangers: Some(strangers) };
        let incoming = self.network.listen(Host::COORDINATOR, COORDINATOR_PORT);
        let (prompts, tree) = (scenario::prompts(), hash_policy::tree());
        let served = riser_coordinator::serve(
            schedule,
            SEED,
            prompts,
            &tree,
            reception,
            incoming,
            self.log.clone(),
            stop.clone(),
        );
        match Box::pin(served).await {
            Ok(_) if stop.is_cancelled() => Ended::Stopped,
            Ok(_) => Ended::Done,
            Err(error) => Ended::Wrong(error.to_string()),
        }
    }

    /// The learner's process.
    pub(crate) async fn learner(self, number: u32, stop: CancellationToken) -> Ended {
        let incarnation = Incarnation(number);
        let recovery = self.disk.recover();
        self.witness.recovered(&recovery);
        if self.witness.is_over() {
            // A coordinator that is not there any more has heard of it already.
            self.announce_end(incarnation, FAREWELL).await;
            return Ended::Done;
        }
        let coordinator = self.to_coordinator(Host::LEARNER, Pass::default().with_run(description().run));
        let patience = Patience::lasting(PATIENCE);
        let port = if self.moves { LEARNER_PORT + number as u16 } else { LEARNER_PORT };
        let presence = Presence { address: Some(format!("learner:{port}")), access: access(), ..Presence::default() };
        let mut config = LearnerConfig {
            incarnation,
            checkpoints: Some(self.checkpoint.clone()),
            files: self.disk.clone(),
            skipped: recovery.skipped,
            patience,
            presence,
            log: Some(self.log.clone()),
            ..self.scenario.learner()
        };
        let mut trainer = HashTrainer::new();
        if let Some(checkpoint) = recovery.checkpoint {
            config.start_version = checkpoint.manifest.version;
            config.start_digest = Some(checkpoint.manifest.policy);
            config.consumed = checkpoint.manifest.consumed;
            config.retained = checkpoint.retained;
            trainer = HashTrainer::open(&checkpoint.folder);
        }
        let incoming = self.network.listen(Host::LEARNER, port);
        let (events, mut observed) = mpsc::channel(1);
        let trainer = Box::new(WitnessTrainer::new(trainer, self.witness.clone(), &config));
        let tree = hash_policy::tree();
        let learner = riser_learner::run(config, trainer, tree, coordinator, incoming, events, stop.clone());
        let watch = async {
            while let Some(event) = observed.recv().await {
                self.trace.note("event", format_args!("{event:?}"));
                self.witness.saw(&event);
            }
        };
        let (outcome, ()) = tokio::join!(Box::pin(learner), watch);
        match outcome {
            Ok(outcome @ Outcome { finished: true, .. }) => {
                self.witness.finished(outcome);
                Ended::Done
            }
            Ok(_) if stop.is_cancelled() => Ended::Stopped,
            Ok(outcome) => Ended::Wrong(format!("{outcome:?} without having been asked to stop")),
            Err(LearnerError::Coordinator(status)) => lost(&status),
            Err(LearnerError::Step(StepError::Checkpoint(CheckpointError::Folder(
                error @ FolderError::Full { .. },
            )))) => Ended::Lost(error.to_string()),
            Err(error) => Ended::Wrong(error.to_string()),
        }
    }

    /// What a learner does whose run has ended before.
    async fn announce_end(self, incarnation: Incarnation, patience: Duration) {
        let coordinator = self.to_coordinator(Host::LEARNER, Pass::default().with_run(description().run));
        let (pacing, total, patience) =
            (self.scenario.pacing(), self.scenario.total_batches, Patience::lasting(patience));
        let told = riser_learner::announce_end(incarnation, pacing, total, coordinator, patience).await;
        self.trace.note("announce", told.is_ok());
    }

    /// A worker's process.
    pub(crate) async fn worker(self, host: Host, stop: CancellationToken) -> Ended {
        let joined = Box::pin(stop.run_until_cancelled(self.join(host))).await;
        let welcome = match joined {
            None => return Ended::Stopped,
            Some(Err(ended)) => return ended,
            Some(Ok(welcome)) => welcome,
        };
        let Welcome { worker, run, learner, parent } = welcome;
        assert_eq!(parent, None, "nobody hands policies on");
        self.trace.note("join", format_args!("{host} {worker}"));
        let pass = Pass::default().with_run(run.run).with_worker(worker);
        let coordinator = self.to_coordinator(host, pass.clone());
        let (channel, redirect) = Channel::redirectable(self.to_learner(host, &learner));
        let config =
            WorkerConfig { patience: Patience::lasting(PATIENCE), lease_wait: WAIT, ..WorkerConfig::new(worker) };
        let witness = self.witness.clone();
        let samplers = Arc::new(move |tree: Arc<PrefixTree>| -> Result<Box<dyn Sampler>, SamplerError> {
            Ok(Box::new(WitnessSampler::new(HashSampler::new(tree), witness.clone())))
        });
        let ending = Ending { drain: stop.clone(), ..Ending::default() };
        let working = riser_rollout_worker::run_at(
            WorkerPlace::default(),
            config,
            coordinator.clone(),
            channel.with_pass(pass),
            samplers,
            ending,
        );
        let ended = tokio::select! {
            ended = Box::pin(working) => ended,
            lost = self.follow(host, coordinator.clone(), learner, redirect) => return lost,
        };
        if stop.is_cancelled() {
            let mut client = transport::coordinator_client(coordinator);
            let _ = within(GOODBYE, client.leave(v1::LeaveRequest { worker: worker.0 })).await;
        }
        match ended {
            Ok(_) if stop.is_cancelled() => Ended::Stopped,
            Ok(_) => Ended::Done,
            Err(WorkerError::Coordinator(status) | WorkerError::Learner(status)) => lost(&status),
            Err(error) => Ended::Wrong(error.to_string()),
        }
    }

    async fn join(&self, host: Host) -> Result<Welcome, Ended> {
        let client = transport::coordinator_client(self.to_coordinator(host, Pass::default()));
        loop {
            let call = || {
                let mut client = client.clone();
                let request =
                    v1::JoinRequest { name: host.to_string(), wait_millis: millis(WAIT), relay: String::new() };
                async move { client.join(request).await }
            };
            let reply = Patience::lasting(PATIENCE).retry(call).await.map_err(|status| lost(&status))?;
            match JoinReply::try_from(reply).map_err(|error| Ended::Wrong(error.to_string()))? {
                JoinReply::Welcome(welcome) => return Ok(*welcome),
                JoinReply::Wait => {}
                JoinReply::Done => return Err(Ended::Done),
            }
        }
    }

    async fn follow(&self, host: Host, coordinator: Channel, mut learner: LearnerPlace, redirect: Redirect) -> Ended {
        let client = transport::coordinator_client(coordinator);
        loop {
            let known = learner.incarnation.0;
            let call = || {
                let mut client = client.clone();
                async move { client.locate(v1::LocateRequest { known, wait_millis: millis(WAIT) }).await }
            };
            let found = match Patience::lasting(PATIENCE).retry(call).await {
                Ok(reply) => reply.learner,
                Err(status) => return lost(&status),
            };
            let Some(place) = found.and_then(|place| LearnerPlace::try_from(place).ok()) else { continue };
            if place != learner {
                redirect.to(self.to_learner(host, &place));
                learner = place;
            }
        }
    }

    fn to_learner(&self, host: Host, place: &LearnerPlace) -> tonic::transport::Channel {
        let port = place.address.strip_prefix("learner:").unwrap().parse().unwrap();
        self.network.channel(host, Host::LEARNER, port)
    }
}

/// Where a run keeps its checkpoints.
pub(crate) fn checkpoints(folder: PathBuf, every: u64, keep: usize) -> CheckpointConfig {
    CheckpointConfig { folder, every, keep }
}
