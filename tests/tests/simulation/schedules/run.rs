//! One schedule: a run, a plan of faults, and whether every promise was kept.

use super::{
    changes::{self, Change},
    disk::CrashingDisk,
    host::{Controls, Gone, Host, Site},
    logs::{Everything, LogDisk},
    machine,
    network::Network,
    objects::Objects,
    plan::{Cast, Fault, Plan},
    relays::Relays,
    roles::{Checkpoints, Run},
    stage::{Disks, Stage},
    trace::Trace,
    witness::Witness,
};
use crate::scenario::Scenario;
use rand::{Rng, seq::IndexedRandom};
use riser::{
    audit::{self, Audit},
    run_database::{FILE, RunDatabase, RunFacts},
};
use riser_core::{pace, random::Seed, run_event::RunEvent, snapshot::TensorDtype};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// Simulated time after the last fault within which everybody must have ended: a process that cannot know that the run is over
/// gives up after its patience of 600 s, and one that was started again meanwhile after another.
const RECOVERY: Duration = Duration::from_secs(1300);

/// What became of a schedule.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) setup: String,
    pub(crate) trace: String,
    pub(crate) violations: Vec<String>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Simulated time of the whole run, and from the last fault to the end of coordinator and learner.
    pub(crate) lasted: Duration,
    pub(crate) recovery: Duration,
}

/// Executes the schedule of a seed on a thread of its own.
pub(crate) fn execute(seed: u64) -> Report {
    let run = move || {
        machine::simulate(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let report = runtime.block_on(schedule(Seed(seed)));
        drop(runtime);
        report
    };
    std::thread::Builder::new().name(format!("seed {seed}")).spawn(run).unwrap().join().unwrap()
}

async fn schedule(seed: Seed) -> Report {
    let trace = Trace::begin();
    let mut draws = seed.stream("setup", &[]);
    let num_workers = draws.random_range(1..=4);
    let mut scenario = Scenario::new(draws.random_range(0..=2), num_workers);
    scenario.total_batches = draws.random_range(4..=14);
    scenario.max_staleness = draws.random_bool(0.35).then(|| draws.random_range(0..=3));
    scenario.served_dtype = *[TensorDtype::F32, TensorDtype::Bf16].choose(&mut draws).unwrap();
    let slowest = *[0.05, 0.5, 3.0].choose(&mut draws).unwrap();
    let mut paces = seed.stream("pace", &[]);
    let paces = std::cell::RefCell::new(move || Duration::from_secs_f64(paces.random_range(0.001..slowest)));
    pace::simulate(move || (paces.borrow_mut())());

    // About as long as an undisturbed run.
    let span = Duration::from_secs_f64(scenario.total_batches as f64 * (2.5 * slowest + 0.3));
    let (every, keep, moves) = (draws.random_range(1..=3), draws.random_range(1..=3), draws.random());
    let has_store = draws.random_bool(0.5);
    let has_second = has_store && draws.random_bool(0.3);
    let has_second_coordinator = draws.random_bool(0.08);
    let cast = Cast { num_workers, has_store, has_second, has_second_coordinator };
    let relays = draws.random_bool(0.4).then(|| {
        let hosts = (0..num_workers as u8).map(|worker| Host(worker + 2)).filter(|_| draws.random_bool(0.8)).collect();
        Relays { fan_out: draws.random_range(1..=2).try_into().unwrap(), hosts }
    });
    let plan = Plan::draw(seed, &cast, span);
    let setup = format!(
        "{:?}, {num_workers} workers, {} batches, {:?}, checkpoint every {every} keeping {keep}, work takes up to {slowest} s, \
         store: {has_store}, {relays:?}",
        scenario.pacing(),
        scenario.total_batches,
        scenario.served_dtype,
    );
    // A plan is lost with the disk that it is on, and a second learner has another one.
    let keeps_plan = !has_second && !plan.0.iter().any(|(_, fault)| matches!(fault, Fault::DiskLost { .. }));
    let mut draws = seed.stream("change", &[]);
    let change = (keeps_plan && draws.random_bool(0.5)).then(|| Change {
        at: span.mul_f64(draws.random_range(0.0..0.7)),
        first_batch: draws.random_range(1..scenario.total_batches),
    });
    let setup = format!("{setup}, {change:?}");
    if relays.is_some() {
        trace.note("with relays", "");
    }
    if has_store {
        trace.note("with a store", "");
    }
    trace.note("setup", &setup);

    let network = Network::new(seed, trace.clone());
    let disks: Disks = cast.learners().into_iter().map(|host| (host, Arc::new(CrashingDisk::new()))).collect();
    let store = has_store.then(|| Objects::new(seed, &network, &trace));
    let witness = Witness::new(&scenario, relays.clone(), change, &trace);
    let everything = Everything::default();
    let logs: BTreeMap<Host, LogDisk> =
        cast.learners().into_iter().chain([Host::COORDINATOR]).map(|host| (host, LogDisk::default())).collect();
    let run = Run {
        checkpoints: Checkpoints { every, keep },
        moves,
        network: network.clone(),
        trace: trace.clone(),
        disks: disks.clone(),
        store: store.clone(),
        relays,
        witness: witness.clone(),
        logs: logs.clone(),
        everything: everything.clone(),
        scenario: scenario.clone(),
    };
    let mut hosts = Hosts::start(seed, &run, &cast);
    let operator =
        change.map(|change| tokio::spawn(changes::ask(change, network.clone(), witness.clone(), trace.clone())));
    let (controls, second) = (hosts.controls.clone(), hosts.second.clone());
    let stage = Stage { cast, controls, second, network, disks, store, witness: witness.clone(), trace: trace.clone() };
    let faults = tokio::spawn(stage.play(plan.clone()));
    let ended = trace.broken().run_until_cancelled(hosts.end(&witness, &trace));
    let in_time = timeout(plan.end() + RECOVERY, ended).await.is_ok();
    if !in_time {
        trace.violation(format_args!("{RECOVERY:?} after the last fault the run has not ended: {}", hosts.state()));
    }
    let lasted = trace.now();
    faults.abort();
    if let Some(operator) = operator {
        operator.abort();
    }
    hosts.tasks.shutdown().await;
    // What was sent to the log gets there.
    tokio::time::sleep(Duration::from_secs(1)).await;
    if trace.violations().is_empty() {
        witness.examine();
        if !witness.is_over() {
            trace.violation("every process has ended before everything was trained");
        }
        // Two learners have two logs, and so have one before its disk was lost and one after. Two coordinators write in an order of
        // their own.
        if !has_second && !has_second_coordinator && witness.numbers_are_unique() {
            prove(&scenario, &everything.lock().unwrap(), &trace);
        }
        logs.iter().for_each(|(host, log)| prove_rest(&scenario, *host, log, &trace));
    }
    Report {
        setup,
        trace: trace.digest(),
        violations: trace.violations(),
        counts: trace.counts(),
        lasted,
        recovery: hosts.over_at.unwrap_or(lasted).saturating_sub(plan.end()),
        plan,
    }
}

/// What the log proves after the end.
fn prove(scenario: &Scenario, events: &[RunEvent], trace: &Trace) {
    let audit = audited(scenario, events, false);
    for violation in &audit.violations {
        trace.violation(violation);
    }
    let trained = audit.account.map(|account| account.trained);
    let expected = scenario.total_batches * scenario.pacing().groups_per_batch();
    if (audit.version, trained) != (scenario.total_batches, Some(expected)) {
        trace.violation(format_args!("the log ends at version {} with {trained:?} groups trained", audit.version));
    }
}

/// What is left of one role's own log proves less, and nothing wrong.
fn prove_rest(scenario: &Scenario, host: Host, log: &LogDisk, trace: &Trace) {
    for violation in audited(scenario, &log.events(), log.is_elsewhere()).violations {
        trace.violation(format_args!("what is left of the log of {host}: {violation}"));
    }
}

fn audited(scenario: &Scenario, events: &[RunEvent], is_elsewhere: bool) -> Audit {
    let folder = tempfile::tempdir().unwrap();
    let facts = RunFacts { pacing: scenario.pacing(), total_batches: scenario.total_batches };
    let path = folder.path().join(FILE);
    let mut database = RunDatabase::open(&path, &facts).unwrap();
    database.append(0.0, events).unwrap();
    if is_elsewhere {
        database.trained_elsewhere().unwrap();
    }
    drop(database);
    audit::audit(&path).unwrap()
}

/// All hosts of a run.
struct Hosts {
    controls: BTreeMap<Host, Controls>,
    tasks: JoinSet<Host>,
    running: Vec<Host>,
    over: CancellationToken,
    /// Starts the second learner, and the second coordinator.
    second: [CancellationToken; 2],
    /// When the coordinator and a learner had ended because everything is trained.
    over_at: Option<Duration>,
}

impl Hosts {
    fn start(seed: Seed, run: &Run, cast: &Cast) -> Self {
        let (mut tasks, over) = (JoinSet::new(), CancellationToken::new());
        let second = [CancellationToken::new(), CancellationToken::new()];
        let running = cast.hosts();
        let mut controls = BTreeMap::new();
        for &host in &running {
            let (mut site, control) = Site::new(host, &run.network, &run.trace);
            controls.insert(host, control);
            let (run, over, second) = (run.clone(), over.clone(), second.clone());
            let mut losses = seed.stream("losses", &[host.0.into()]);
            tasks.spawn(async move {
                let witness = run.witness.clone();
                let waits_for = match host {
                    Host::SECOND_LEARNER => Some(&second[0]),
                    Host::SECOND_COORDINATOR => Some(&second[1]),
                    _ => None,
                };
                if let Some(called) = waits_for {
                    tokio::select! {
                        () = called.cancelled() => {}
                        () = over.cancelled() => return host,
                    }
                    site.forget_orders();
                }
                match host {
                    Host::COORDINATOR | Host::SECOND_COORDINATOR => {
                        let log = run.logs[&Host::COORDINATOR].clone();
                        let start = |_, stop| run.clone().coordinator(host, stop);
                        let gone = |how| {
                            witness.disturbed(&[host]);
                            if how == (Gone::Killed { dark: true }) {
                                log.lose_end(&mut losses);
                            }
                        };
                        site.keep(over, start, gone).await;
                    }
                    Host::LEARNER | Host::SECOND_LEARNER => {
                        let (disk, log) = (run.disks[&host].clone(), run.logs[&host].clone());
                        let start = |_, stop| run.clone().learner(host, stop);
                        let gone = |how| {
                            witness.disturbed(&[host]);
                            match how {
                                Gone::ByItself => {}
                                Gone::Killed { dark } => {
                                    disk.crash(&mut losses);
                                    if dark {
                                        log.lose_end(&mut losses);
                                    }
                                }
                                Gone::WithDisk => {
                                    disk.lose();
                                    log.lose();
                                    witness.lost_disk(host);
                                }
                            }
                        };
                        site.keep(over, start, gone).await;
                    }
                    _ => {
                        let start = |_, stop| run.clone().worker(host, stop);
                        site.keep(over, start, |_| witness.disturbed(&[host])).await;
                    }
                }
                host
            });
        }
        Self { controls, tasks, running, over, second, over_at: None }
    }

    /// Waits for the end of all.
    async fn end(&mut self, witness: &Witness, trace: &Trace) {
        while let Some(ended) = self.tasks.join_next().await {
            let host = ended.unwrap();
            trace.note("over", host);
            self.running.retain(|&running| running != host);
            let is_called = self.second[1].is_cancelled();
            let coordinator = if is_called { Host::SECOND_COORDINATOR } else { Host::COORDINATOR };
            if !self.running.contains(&coordinator) && witness.is_over() {
                self.over.cancel();
                self.over_at.get_or_insert(trace.now());
            }
        }
    }

    fn state(&self) -> String {
        let names: Vec<String> = self.running.iter().map(ToString::to_string).collect();
        format!("running are {}", names.join(", "))
    }
}
