//! One schedule: a run, a plan of faults, and whether every promise was kept.

use super::{
    disk::CrashingDisk,
    host::{Controls, Host, Order, Site},
    machine,
    network::Network,
    plan::{Fault, Plan},
    roles::{Run, checkpoints},
    trace::Trace,
    witness::Witness,
};
use crate::scenario::Scenario;
use rand::{Rng, seq::IndexedRandom};
use riser::{
    audit,
    run_database::{FILE, RunDatabase, RunFacts},
};
use riser_core::{random::Seed, run_event::RunEvent, snapshot::TensorDtype};
use riser_proto::offload;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep_until, timeout},
};
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
    let pace = std::cell::RefCell::new(move || Duration::from_secs_f64(paces.random_range(0.001..slowest)));
    offload::simulate(move || (pace.borrow_mut())());

    // About as long as an undisturbed run.
    let span = Duration::from_secs_f64(scenario.total_batches as f64 * (2.5 * slowest + 0.3));
    let plan = Plan::draw(seed, num_workers, span);
    let (every, keep, moves) = (draws.random_range(1..=3), draws.random_range(1..=3), draws.random());
    let setup = format!(
        "{:?}, {num_workers} workers, {} batches, {:?}, checkpoint every {every} keeping {keep}, work takes up to {slowest} s",
        scenario.pacing(),
        scenario.total_batches,
        scenario.served_dtype,
    );
    trace.note("setup", &setup);

    let (log, events) = mpsc::channel(64);
    let logged = Arc::new(Mutex::new(vec![]));
    let network = Network::new(seed, trace.clone());
    let disk = Arc::new(CrashingDisk::new());
    let witness = Witness::new(&scenario, &trace);
    tokio::spawn(collect(events, logged.clone(), trace.clone(), witness.clone()));
    let run = Run {
        checkpoint: checkpoints(disk.checkpoints(), every, keep),
        moves,
        network: network.clone(),
        trace: trace.clone(),
        disk: disk.clone(),
        witness: witness.clone(),
        log,
        scenario: scenario.clone(),
    };
    let mut hosts = Hosts::start(seed, &run, num_workers);
    let faults = tokio::spawn(inject(plan.clone(), hosts.controls.clone(), network, disk, trace.clone()));
    let ended = trace.broken().run_until_cancelled(hosts.end(&trace));
    let in_time = timeout(plan.end() + RECOVERY, ended).await.is_ok();
    if !in_time {
        trace.violation(format_args!("{RECOVERY:?} after the last fault the run has not ended: {}", hosts.state()));
    }
    let lasted = trace.now();
    faults.abort();
    hosts.tasks.shutdown().await;
    // What was sent to the log gets there.
    tokio::time::sleep(Duration::from_secs(1)).await;
    if trace.violations().is_empty() {
        prove(&scenario, &logged.lock().unwrap(), &witness, &trace);
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

async fn collect(
    mut events: mpsc::Receiver<RunEvent>,
    all: Arc<Mutex<Vec<RunEvent>>>,
    trace: Trace,
    witness: Arc<Witness>,
) {
    while let Some(event) = events.recv().await {
        trace.note("log", format_args!("{event:?}"));
        witness.logged(&event);
        all.lock().unwrap().push(event);
    }
}

/// What the log proves after the end.
fn prove(scenario: &Scenario, events: &[RunEvent], witness: &Witness, trace: &Trace) {
    if !witness.is_over() {
        trace.violation("every process has ended before everything was trained");
    }
    let folder = tempfile::tempdir().unwrap();
    let facts = RunFacts { pacing: scenario.pacing(), total_batches: scenario.total_batches };
    let path = folder.path().join(FILE);
    let mut database = RunDatabase::open(&path, &facts).unwrap();
    database.append(0.0, events).unwrap();
    drop(database);
    let audit = audit::audit(&path).unwrap();
    for violation in &audit.violations {
        trace.violation(violation);
    }
    let trained = audit.account.map(|account| account.trained);
    let expected = scenario.total_batches * scenario.pacing().groups_per_batch();
    if (audit.version, trained) != (scenario.total_batches, Some(expected)) {
        trace.violation(format_args!("the log ends at version {} with {trained:?} groups trained", audit.version));
    }
}

/// All hosts of a run.
struct Hosts {
    controls: BTreeMap<Host, Controls>,
    tasks: JoinSet<Host>,
    running: Vec<Host>,
    over: CancellationToken,
    /// When coordinator and learner had ended.
    over_at: Option<Duration>,
}

impl Hosts {
    fn start(seed: Seed, run: &Run, num_workers: usize) -> Self {
        let (mut tasks, over) = (JoinSet::new(), CancellationToken::new());
        let running: Vec<Host> = (0..2 + num_workers as u8).map(Host).collect();
        let mut controls = BTreeMap::new();
        for &host in &running {
            let (site, control) = Site::new(host, &run.network, &run.trace);
            controls.insert(host, control);
            let (run, over) = (run.clone(), over.clone());
            let mut losses = seed.stream("losses", &[host.0.into()]);
            tasks.spawn(async move {
                let disk = run.disk.clone();
                match host {
                    Host::COORDINATOR => {
                        let start = |number, stop| run.clone().coordinator(number, stop);
                        site.keep(over, start, || {}).await;
                    }
                    Host::LEARNER => {
                        let start = |number, stop| run.clone().learner(number, stop);
                        site.keep(over, start, || disk.crash(&mut losses)).await;
                    }
                    _ => {
                        let start = |_, stop| run.clone().worker(host, stop);
                        site.keep(over, start, || {}).await;
                    }
                }
                host
            });
        }
        Self { controls, tasks, running, over, over_at: None }
    }

    /// Waits for the end of all.
    async fn end(&mut self, trace: &Trace) {
        while let Some(ended) = self.tasks.join_next().await {
            let host = ended.unwrap();
            trace.note("over", host);
            self.running.retain(|&running| running != host);
            if !self.running.contains(&Host::COORDINATOR) && !self.running.contains(&Host::LEARNER) {
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

/// Carries the plan out.
async fn inject(plan: Plan, hosts: BTreeMap<Host, Controls>, network: Network, disk: Arc<CrashingDisk>, trace: Trace) {
    let start = tokio::time::Instant::now();
    let all: Vec<Host> = hosts.keys().copied().collect();
    let mut going_on = JoinSet::new();
    for (at, fault) in plan.0 {
        sleep_until(start + at).await;
        trace.note(fault.kind(), format_args!("{fault:?}"));
        let order = |host: Host, order| hosts[&host].orders.send(order).unwrap_or_default();
        let (network, lasting) = (network.clone(), fault.lasting());
        match fault {
            Fault::Crash { host, dark, down } => order(host, Order::Kill { dark, down }),
            Fault::Stop { host, down } => order(host, Order::Stop { down }),
            Fault::CrashWriting { operations, down } => {
                let orders = hosts[&Host::LEARNER].orders.clone();
                disk.fail_after(operations, orders, Order::Kill { dark: false, down });
            }
            Fault::Cut { one, other } => network.cut(one, other),
            Fault::Freeze { host, .. } => {
                let ice = hosts[&host].ice.clone();
                let ways = ways(&[host], &all, false);
                ice.freeze();
                ways.iter().for_each(|&(from, to)| network.block(from, to));
                going_on.spawn(async move {
                    tokio::time::sleep(lasting).await;
                    ice.thaw();
                    ways.iter().for_each(|&(from, to)| network.unblock(from, to));
                });
            }
            Fault::Partition { side, one_way, .. } => {
                let ways = ways(&side, &all, one_way);
                ways.iter().for_each(|&(from, to)| network.block(from, to));
                going_on.spawn(async move {
                    tokio::time::sleep(lasting).await;
                    ways.iter().for_each(|&(from, to)| network.unblock(from, to));
                });
            }
            Fault::Slow { from, to, slowness, .. } => {
                network.slow(from, to, slowness);
                going_on.spawn(async move {
                    tokio::time::sleep(lasting).await;
                    network.slow(from, to, 1);
                });
            }
            Fault::DiskFull { .. } => {
                disk.set_full(true);
                let disk = disk.clone();
                going_on.spawn(async move {
                    tokio::time::sleep(lasting).await;
                    disk.set_full(false);
                });
            }
        }
    }
    while going_on.join_next().await.is_some() {}
    disk.disarm();
    trace.note("calm", "");
}

/// The directed links between `side` and everyone else.
fn ways(side: &[Host], all: &[Host], one_way: bool) -> Vec<(Host, Host)> {
    let mut ways = vec![];
    for &here in side {
        for &there in all.iter().filter(|there| !side.contains(there)) {
            ways.push((here, there));
            if !one_way {
                ways.push((there, here));
            }
        }
    }
    ways
}
