//! The three roles as processes, each as `riser/src/processes` runs it, with a policy that is a hash.

use super::{
    changes::NextCatalog,
    disk::CrashingDisk,
    host::{Ended, Host},
    logs::{Everything, LogDisk},
    network::Network,
    objects::Objects,
    relays::Relays,
    trace::Trace,
    witness::{WORKERS_PER_START, Witness, WitnessSampler, WitnessTrainer},
};
use crate::{
    hash_policy::{self, HashSampler, HashTrainer},
    scenario::{self, SEED, Scenario},
};
use riser_coordinator::{
    catalogs::RunData,
    reception::{Reception, Strangers},
};
use riser_core::{
    catalog::plan::CatalogPlan,
    config::HostPort,
    digest::Digest,
    ids::Incarnation,
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
    selection::{Fill, Pick, Selection},
};
use riser_learner::{
    LearnerConfig, LearnerError, Outcome,
    checkpoint::CheckpointError,
    config::{CheckpointConfig, DurableConfig},
    presence::Presence,
    steps::StepError,
};
use riser_proto::{
    access::Access,
    call::{Patience, explain, is_transient},
    catalog::CatalogFile,
    channel::{Channel, Pass},
    egress::EgressLedger,
    join::{LearnerPlace, RunDescription, SamplingRules},
};
use riser_rollout_worker::{
    Sampler, SamplerError, WorkerError, WorkerPlace,
    catalog::{Mirror, Mirrored, Sources},
    member::{Member, MemberError, Ways},
    relay::{self, RelaySettings},
};
use riser_store::{DurableStore, FolderError, StoreError, durable::Transfer};
use std::{
    collections::BTreeMap, convert::Infallible, future::Future, num::NonZeroU32, pin::Pin, sync::Arc, time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel as Connection};

/// How long a peer that is away is tried again.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a learner whose run has ended before tries to say so.
const FAREWELL: Duration = Duration::from_secs(20);

/// Longest time that a learner which is done takes to put its model down.
const CLEARING_UP: Duration = Duration::from_millis(500);

/// How often it is looked at whom a learner sends policies to.
const LOOK: Duration = Duration::from_secs(1);

/// How long the store may take to answer.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const COORDINATOR_PORT: u16 = 7470;
const RELAY_PORT: u16 = 7472;
const LEARNER_PORT: u16 = 8000;

/// What all processes of a run share, and what watches them.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) checkpoints: Checkpoints,
    /// Whether each learner listens at a port of its own.
    pub(crate) moves: bool,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    /// Of each learner.
    pub(crate) disks: BTreeMap<Host, Arc<CrashingDisk>>,
    pub(crate) store: Option<Objects>,
    pub(crate) relays: Option<Relays>,
    pub(crate) witness: Arc<Witness>,
    /// The event log of the coordinator and of each learner, and all that was ever said to any of them.
    pub(crate) logs: BTreeMap<Host, LogDisk>,
    pub(crate) everything: Everything,
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
    pub(crate) async fn coordinator(self, host: Host, stop: CancellationToken) -> Ended {
        let kept = self.logs[&Host::COORDINATOR].clone();
        let number = kept.new_incarnation();
        let schedule = self.scenario.schedule(number);
        let (log, writer) = kept.open(&self.everything, &self.trace);
        let returning = (schedule.lease_timeout / 3).max(2 * Patience::default().longest_pause);
        let strangers = Strangers {
            description: description(),
            first_worker: u64::from(number - 1) * WORKERS_PER_START + 1,
            max_workers: 64,
            fan_out: self.relays.as_ref().map_or(NonZeroU32::MIN, |relays| relays.fan_out),
            silence: schedule.lease_timeout.max(Duration::from_secs(40)),
            quiet: 2 * returning,
            returning: if number > 1 { returning } else { Duration::ZERO },
            memory: Arc::new(kept.clone()),
        };
        let reception = Reception { access: access(), strangers: Some(strangers) };
        let incoming = self.network.listen(host, COORDINATOR_PORT);
        let (prompts, tree) = (scenario::prompts(), hash_policy::tree());
        if let Some(store) = self.catalogs(host) {
            let tree = tree.clone();
            tokio::spawn(async move {
                for (digest, bytes) in CatalogFile::new(&tree).chunks() {
                    // Workers ask the coordinator for what is not there.
                    let _ = store.put_chunk(digest, bytes).await;
                }
            });
        }
        let changes = NextCatalog(self.disks[&Host::LEARNER].clone());
        let data = RunData { changes: Some(Arc::new(changes)), ..RunData::fixed(prompts, &tree) };
        let served = riser_coordinator::serve(schedule, SEED, data, reception, incoming, log, stop.clone());
        match Box::pin(writer.during(served)).await {
            Ok(_) if stop.is_cancelled() => Ended::Stopped,
            Ok(_) => Ended::Done,
            Err(error) => Ended::Wrong(error.to_string()),
        }
    }

    /// A learner's process.
    pub(crate) async fn learner(self, host: Host, stop: CancellationToken) -> Ended {
        let (disk, durable) = (self.disks[&host].clone(), |is_instant| self.durable(host, is_instant));
        let predecessor = riser_learner::predecessor(self.to_learners_coordinator(host)).await;
        let recovery = match disk.recover(durable(true).as_ref()) {
            Ok(recovery) => recovery,
            Err(CheckpointError::Store(error)) if !error.is_final() => return Ended::Lost(error.to_string()),
            Err(error) => return Ended::Wrong(error.to_string()),
        };
        self.witness.recovered(host, &recovery);
        if recovery.restored {
            self.logs[&host].trained_elsewhere();
        }
        let incarnation = disk.new_incarnation(predecessor);
        let start = self.witness.began(host, incarnation);
        if disk.has_model() {
            // A coordinator that is not there any more has heard of it already.
            self.announce_end(host, incarnation, FAREWELL).await;
            return Ended::Done;
        }
        let coordinator = self.to_learners_coordinator(host);
        let patience = Patience::lasting(PATIENCE);
        let port = if self.moves { LEARNER_PORT + incarnation.0 as u16 } else { LEARNER_PORT };
        let presence = Presence { address: Some(format!("{host}:{port}")), access: access(), ..Presence::default() };
        let Checkpoints { every, keep } = self.checkpoints;
        let (log, writer) = self.logs[&host].open(&self.everything, &self.trace);
        let (used, batch) = match &recovery.checkpoint {
            Some(checkpoint) => (checkpoint.manifest.catalogs.clone(), checkpoint.manifest.version.0),
            None => (CatalogPlan::new(hash_policy::tree().digest()), 0),
        };
        let catalogs = CatalogPlan::resumed(used, disk.plan(), batch);
        let mut config = LearnerConfig {
            incarnation,
            start,
            checkpoints: Some(CheckpointConfig { folder: disk.checkpoints(), every, keep }),
            files: disk.clone(),
            durable: durable(false),
            skipped: recovery.skipped,
            catalogs: Some(catalogs),
            changes: Some(Arc::new(NextCatalog(disk.clone()))),
            patience,
            presence,
            log: Some(log),
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
        let incoming = self.network.listen(host, port);
        let (events, mut observed) = mpsc::channel(1);
        let egress = config.egress.clone();
        let trainer = Box::new(WitnessTrainer::new(trainer, self.witness.clone(), &config));
        let tree = hash_policy::tree();
        let learner = riser_learner::run(config, trainer, tree, coordinator, incoming, events, stop.clone());
        let watch = async {
            loop {
                tokio::select! {
                    biased;
                    event = observed.recv() => {
                        let Some(event) = event else { return };
                        self.trace.note("event", format_args!("{host} {event:?}"));
                        self.witness.saw(host, &event);
                    }
                    () = tokio::time::sleep(LOOK) => self.witness.fed(&egress.read()),
                }
            }
        };
        let (outcome, ()) = tokio::join!(Box::pin(writer.during(learner)), watch);
        match outcome {
            Ok(outcome @ Outcome { finished: true, .. }) => {
                self.witness.finished(outcome);
                disk.keep_model();
                tokio::time::sleep(CLEARING_UP).await;
                Ended::Done
            }
            Ok(_) if stop.is_cancelled() => Ended::Stopped,
            Ok(outcome) => Ended::Wrong(format!("{outcome:?} without having been asked to stop")),
            Err(LearnerError::Coordinator(status)) => self.refused(host, &status),
            Err(LearnerError::Step(StepError::Checkpoint(error))) => match error {
                CheckpointError::Folder(error @ FolderError::Full { .. }) => Ended::Lost(error.to_string()),
                // Two learners at one time make two policies of one version in bounded mode, of which the store keeps one.
                CheckpointError::Store(error @ StoreError::Conflict { .. })
                    if self.disks.len() > 1 && self.scenario.max_staleness.is_some() =>
                {
                    self.witness.diverged(host);
                    Ended::Lost(error.to_string())
                }
                CheckpointError::Store(error) if !error.is_final() => Ended::Lost(error.to_string()),
                error => Ended::Wrong(error.to_string()),
            },
            Err(error) => Ended::Wrong(error.to_string()),
        }
    }

    /// What becomes of a learner whose coordinator says no.
    fn refused(&self, host: Host, status: &Status) -> Ended {
        let is_replaced = status.code() == Code::FailedPrecondition && status.message().starts_with("learner ");
        match is_replaced {
            true if self.witness.refused(host) => Ended::Replaced(explain(status)),
            // A learner whose disk is lost, and whose number with it, is started again until its number is large enough.
            true => Ended::Lost(explain(status)),
            false => lost(status),
        }
    }

    fn to_learners_coordinator(&self, host: Host) -> Channel {
        self.to_coordinator(host, Pass::default().with_run(description().run))
    }

    /// What a learner does whose run has ended before.
    async fn announce_end(&self, host: Host, incarnation: Incarnation, patience: Duration) {
        let coordinator = self.to_learners_coordinator(host);
        let (pacing, total, patience) =
            (self.scenario.pacing(), self.scenario.total_batches, Patience::lasting(patience));
        let catalogs = CatalogPlan::new(hash_policy::tree().digest());
        let told = riser_learner::announce_end(incarnation, pacing, total, catalogs, coordinator, patience).await;
        self.trace.note("announce", told.is_ok());
    }

    /// The run's place in the store, as `host` sees it.
    fn durable(&self, host: Host, is_instant: bool) -> Option<DurableConfig> {
        let store = self.view(host, is_instant)?.within("run");
        Some(DurableConfig { store, keep: self.checkpoints.keep })
    }

    /// Where catalogs are in the store, as `host` sees it.
    fn catalogs(&self, host: Host) -> Option<DurableStore> {
        Some(self.view(host, false)?.within("catalogs"))
    }

    fn view(&self, host: Host, is_instant: bool) -> Option<DurableStore> {
        let transfer = Transfer { patience: STORE_PATIENCE, ..Transfer::default() };
        let view = self.store.as_ref()?.seen_from(host, is_instant);
        Some(DurableStore::on(Arc::new(view), "".into(), transfer))
    }

    /// A worker's process.
    pub(crate) async fn worker(self, host: Host, stop: CancellationToken) -> Ended {
        let hands_on = self.relays.as_ref().is_some_and(|relays| relays.hosts.contains(&host));
        let relay: Option<HostPort> = hands_on.then(|| format!("{host}:{RELAY_PORT}").parse().unwrap());
        let incoming = hands_on.then(|| self.network.listen(host, RELAY_PORT));
        let ways = Wires { network: self.network.clone(), host };
        let patience = Patience::lasting(PATIENCE);
        let member = Member { ways, pass: Pass::default(), name: host.to_string(), patience };
        let joined = Box::pin(stop.run_until_cancelled(member.join(relay.as_ref()))).await;
        let welcome = match joined {
            None => return Ended::Stopped,
            Some(Err(error)) => return ended(error),
            Some(Ok(None)) => return Ended::Done,
            Some(Ok(Some(welcome))) => welcome,
        };
        self.witness.joined(host, &welcome);
        let witness = self.witness.clone();
        let samplers = Arc::new(move |tree: Arc<PrefixTree>| -> Result<Box<dyn Sampler>, SamplerError> {
            Ok(Box::new(WitnessSampler::new(HashSampler::new(tree), witness.clone())))
        });
        let mirror = self.catalogs(host).map(|store| Arc::new(StoredChunks(store)) as Arc<dyn Mirror>);
        let place = WorkerPlace { catalog: Sources { cache: None, mirror }, ..WorkerPlace::default() };
        let shelf = place.shelf.subscribe();
        let serving = async {
            let Some(incoming) = incoming else { return std::future::pending().await };
            let (settings, stop) = (RelaySettings::default(), CancellationToken::new());
            let _stopped = stop.clone().drop_guard();
            relay::serve(shelf, incoming, settings, access(), EgressLedger::default(), stop).await
        };
        let worked = tokio::select! {
            worked = Box::pin(member.work(welcome, place, samplers, &stop)) => worked,
            served = Box::pin(serving) => return Ended::Wrong(format!("policies are not handed on: {served:?}")),
        };
        match worked {
            Ok(_) if stop.is_cancelled() => Ended::Stopped,
            Ok(_) => Ended::Done,
            Err(error) => ended(error),
        }
    }
}

fn ended(error: MemberError<Infallible>) -> Ended {
    match error {
        MemberError::Worker(WorkerError::Coordinator(status) | WorkerError::Learner(status)) => lost(&status),
        MemberError::Worker(error) => Ended::Wrong(error.to_string()),
        MemberError::Unreachable(never) => match never {},
    }
}

/// How a worker reaches others.
struct Wires {
    network: Network,
    host: Host,
}

impl Wires {
    fn to(&self, address: &str) -> Connection {
        let (host, port) = address.rsplit_once(':').unwrap();
        self.network.channel(self.host, Host::named(host), port.parse().unwrap())
    }
}

impl Ways for Wires {
    type Error = Infallible;

    fn to_coordinator(&self) -> Result<Connection, Infallible> {
        Ok(self.network.channel(self.host, Host::COORDINATOR, COORDINATOR_PORT))
    }

    fn to_learner(&self, place: &LearnerPlace) -> Result<Connection, Infallible> {
        Ok(self.to(&place.address))
    }

    fn to_relay(&self, address: &HostPort) -> Result<Connection, Infallible> {
        Ok(self.to(&address.to_string()))
    }
}

/// Catalogs in the store.
#[derive(Debug)]
struct StoredChunks(DurableStore);

impl Mirror for StoredChunks {
    fn chunk(&self, digest: Digest, len: u64) -> Pin<Box<dyn Future<Output = Mirrored> + Send + '_>> {
        Box::pin(async move { Ok(self.0.chunk(digest, len).await?) })
    }
}

/// How a run keeps checkpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checkpoints {
    pub(crate) every: u64,
    pub(crate) keep: usize,
}
