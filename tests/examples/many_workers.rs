//! Many workers against one coordinator and one learner:
//! `cargo run --release -p riser-tests --example many_workers [WORKERS] [BATCHES] [GROUPS_PER_BATCH]`.
//!
//! Coordinator and learner are real and share this process; the workers are real too, all in a second process, but sample by
//! hashing, so that nothing is measured but the cluster itself. Everything goes over loopback TCP, one connection per worker
//! and peer. Prints lease latency as the workers see it, groups per second, and the memory of the serving process over the run.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]
#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]

#[path = "../tests/simulation/hash_policy.rs"]
#[expect(dead_code, reason = "the simulation also saves and opens these policies")]
mod hash_policy;

use hash_policy::{HashSampler, HashTrainer};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use riser_coordinator::{
    prompts::{PromptSource, SourceError},
    schedule::ScheduleConfig,
};
use riser_core::{
    bounded::Bounded,
    ids::{Incarnation, RowId, WorkerId},
    lease::Prompt,
    logprob_space::LogprobSpace,
    pacing::Pacing,
    prefix_tree::PrefixTree,
    random::Seed,
};
use riser_learner::{Event, LearnerConfig};
use riser_proto::transport;
use riser_rollout_worker::{Sampler, SamplerError, WorkerConfig};
use std::{
    net::SocketAddr,
    num::NonZeroU32,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

const NUM_ROWS: u32 = 10_000;
const GROUPS_PER_LEASE: u32 = 4;

struct Rows;

impl PromptSource for Rows {
    fn num_rows(&self) -> NonZeroU32 {
        NUM_ROWS.try_into().unwrap()
    }

    fn prompt(&self, row: RowId) -> Result<Prompt, SourceError> {
        Ok(hash_policy::prompt(row.0))
    }
}

fn sampler(tree: Arc<PrefixTree>) -> Result<Box<dyn Sampler>, SamplerError> {
    Ok(Box::new(HashSampler::new(tree)))
}

fn channel(address: SocketAddr) -> Channel {
    transport::endpoint(Endpoint::from_shared(format!("http://{address}")).unwrap()).connect_lazy()
}

/// Resident memory of this process in MiB.
fn memory() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / f64::from(1 << 20)
}

/// The second process: works until the run is over and prints what its workers waited for.
async fn workers(coordinator: SocketAddr, learner: SocketAddr, count: u64) {
    let recorder = DebuggingRecorder::new();
    let figures = recorder.snapshotter();
    recorder.install().unwrap();
    let mut running = JoinSet::new();
    for worker in 0..count {
        let config = WorkerConfig::new(WorkerId(worker));
        let (coordinator, learner) = (channel(coordinator), channel(learner));
        running.spawn(riser_rollout_worker::run(
            config,
            coordinator,
            learner,
            Arc::new(sampler),
            CancellationToken::new(),
        ));
    }
    let mut leases: Vec<u64> = vec![];
    while let Some(ended) = running.join_next().await {
        leases.push(ended.unwrap().unwrap().leases);
    }
    leases.sort_unstable();
    println!("leases per worker: {} to {}, median {}", leases[0], leases[leases.len() - 1], leases[leases.len() / 2]);
    for (key, _, _, value) in figures.snapshot().into_vec() {
        let DebugValue::Histogram(values) = value else { continue };
        let mut values: Vec<f64> = values.into_iter().map(|value| 1e3 * value.into_inner()).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
        if !values.is_empty() {
            let (name, count) = (key.key().name(), values.len());
            println!("{name}: {count} times, ms: p50 {:.1}, p99 {:.1}, longest {:.1}", at(0.5), at(0.99), at(1.0));
        }
    }
}

async fn serve(count: u64, batches: u64, groups_per_batch: u32) {
    let bounded = Bounded { groups_per_batch: groups_per_batch.try_into().unwrap(), max_staleness: 2 };
    let pacing = Pacing::Bounded(bounded);
    let schedule = ScheduleConfig {
        pacing,
        groups_per_lease: GROUPS_PER_LEASE.try_into().unwrap(),
        total_batches: batches,
        incarnation: Incarnation(1),
        lease_timeout: Duration::from_secs(60),
        lease_lifetime: Duration::from_secs(600),
        max_waiting: 2 * count as usize,
    };
    let (coordinator, learner) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let places = [coordinator.local_addr().unwrap(), learner.local_addr().unwrap()];
    let tree = hash_policy::tree();
    let mut config = LearnerConfig::new(pacing, LogprobSpace::Catalog, batches);
    config.max_subscribers = 2 * count as usize;
    config.budget.max_streams = 2 * count as usize;
    let (events, mut observed) = mpsc::channel(8);
    let stop = CancellationToken::new();

    let mut command = Command::new(std::env::current_exe().unwrap());
    let child = command.arg("workers").args(places.map(|place| place.to_string())).arg(count.to_string());
    let mut child = child.stdout(Stdio::inherit()).spawn().unwrap();

    let coordinating = {
        let (tree, stop) = (tree.clone(), stop.clone());
        tokio::spawn(async move {
            let (log, incoming) = (mpsc::channel(1).0, TcpListenerStream::new(coordinator));
            riser_coordinator::run(schedule, Seed(1), Box::new(Rows), &tree, incoming, log, stop).await
        })
    };
    let watching = tokio::spawn(async move {
        let (mut marks, mut first) = (vec![], None);
        while let Some(event) = observed.recv().await {
            let Event::Step(report) = event else { continue };
            let (_, began) = *first.get_or_insert((report.version, Instant::now()));
            if report.version.0 % (batches / 10).max(1) == 0 {
                marks.push((report.version.0, memory(), began.elapsed().as_secs_f64()));
            }
        }
        (marks, first.unwrap().1.elapsed().as_secs_f64())
    });
    let trainer = Box::new(HashTrainer::new());
    let learning = riser_learner::run(
        config,
        trainer,
        tree,
        channel(places[0]),
        TcpListenerStream::new(learner),
        events,
        stop.clone(),
    );
    let outcome = Box::pin(learning).await.unwrap();
    let (marks, seconds) = watching.await.unwrap();
    tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    stop.cancel();
    coordinating.await.unwrap().unwrap();
    assert!(outcome.finished);
    let groups = (batches - 1) * u64::from(groups_per_batch);
    println!("{groups} groups after the first batch in {seconds:.1} s: {:.0} groups/s", groups as f64 / seconds);
    for (version, memory, seconds) in marks {
        println!("step {version}: {seconds:.1} s, coordinator and learner hold {memory:.0} MiB");
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, coordinator, learner, count] = &arguments[..]
        && mode == "workers"
    {
        return workers(coordinator.parse().unwrap(), learner.parse().unwrap(), count.parse().unwrap()).await;
    }
    let number = |place: usize, default: u64| arguments.get(place).map_or(default, |it| it.parse().unwrap());
    serve(number(0, 1000), number(1, 100), number(2, 2000) as u32).await;
}
