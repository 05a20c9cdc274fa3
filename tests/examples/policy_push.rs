//! How fast a policy reaches its subscribers over loopback, and what the step loop notices of it:
//! `cargo run --release -p riser-tests --example policy_push [MEGABYTES] [RECEIVERS] [ROUNDS]`.
//!
//! A synthetic bf16 policy goes through the publisher, the distribution and the policy feed to receivers on TCP connections of
//! their own, whole and as deltas in which a share of the elements has changed. One more subscriber reads nothing, ever. The
//! yardstick is the same number of bytes over as many plain TCP connections, in the same run. Prints one Markdown row per
//! kind of push: medians over rounds.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]
#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]

#[path = "../../core/examples/synthetic_policy/mod.rs"]
mod synthetic_policy;

use bytes::Bytes;
use rand::Rng;
use riser_core::{lockstep::Lockstep, pacing::Pacing, random::Seed, snapshot::PolicySnapshot};
use riser_learner::{
    distribution::{Distribution, DistributionSettings},
    publisher::Publisher,
};
use riser_proto::{
    access::Access,
    channel::Channel,
    egress::EgressLedger,
    policy::{self, PolicyReceiver},
    transport,
};
use riser_rollout_worker::relay::{self, RelaySettings};
use std::{net::SocketAddr, sync::Arc, time::Instant};
use synthetic_policy::{TENSOR, policy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Endpoint;

/// Shares of changed bf16 elements per optimizer step that were measured at learning rates of 1e-6, 1e-5 and 1e-4.
const SHARES: [(f64, &str); 3] = [(0.0093, "1e-6"), (0.0622, "1e-5"), (0.307, "1e-4")];

/// A receiver has all bytes of a version, or has verified it.
struct Arrived {
    bytes: u64,
    received: Instant,
    opened: Instant,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds for `receivers` plain connections to take all of `bytes` each.
async fn plain(bytes: &Bytes, receivers: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    let started = Instant::now();
    for _ in 0..receivers {
        let mut reader = TcpStream::connect(address).await.unwrap();
        let (mut writer, _) = listener.accept().await.unwrap();
        let bytes = bytes.clone();
        tasks.spawn(async move {
            for piece in bytes.chunks(1 << 20) {
                writer.write_all(piece).await.unwrap();
            }
        });
        tasks.spawn(async move {
            let mut buffer = vec![0; 4 << 20];
            while reader.read(&mut buffer).await.unwrap() > 0 {}
        });
    }
    tasks.close();
    tasks.wait().await;
    started.elapsed().as_secs_f64()
}

fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    transport::endpoint(endpoint).connect_lazy().into()
}

/// Takes policies until `stop`, starting with nothing in hand.
async fn receive(address: SocketAddr, arrived: mpsc::Sender<Arrived>) {
    let request = policy::subscription(None, None);
    let reply = transport::relay_client(channel(address)).subscribe_policy(request).await.unwrap();
    let mut chunks = reply.into_inner();
    let (mut receiver, mut held, mut bytes) = (PolicyReceiver::new(1 << 40), None::<Arc<PolicySnapshot>>, 0);
    while let Ok(Some(chunk)) = chunks.message().await {
        bytes += prost::Message::encoded_len(&chunk) as u64;
        let Some(arrival) = receiver.push(chunk).unwrap() else { continue };
        let (received, base) = (Instant::now(), held.take());
        let opened = tokio::task::spawn_blocking(move || arrival.open(base.as_deref()).unwrap()).await.unwrap();
        held = Some(opened.snapshot.into());
        arrived.send(Arrived { bytes, received, opened: Instant::now() }).await.unwrap();
        bytes = 0;
    }
}

/// What a push came to, in seconds after it began; bytes of one receiver.
struct Push {
    bytes: u64,
    received: f64,
    opened: f64,
}

async fn all(arrived: &mut mpsc::Receiver<Arrived>, receivers: usize, started: Instant) -> Push {
    let mut push = Push { bytes: 0, received: 0.0, opened: 0.0 };
    for _ in 0..receivers {
        let arrival = arrived.recv().await.unwrap();
        push.bytes = arrival.bytes;
        push.received = push.received.max((arrival.received - started).as_secs_f64());
        push.opened = push.opened.max((arrival.opened - started).as_secs_f64());
    }
    push
}

#[tokio::main]
async fn main() {
    let argument = |place: usize, default: usize| std::env::args().nth(place).map_or(default, |it| it.parse().unwrap());
    let (megabytes, receivers, rounds) = (argument(1, 200), argument(2, 8), argument(3, 3).max(1));
    let mut draws = Seed(1).stream("policy push", &[]);
    let count = (megabytes * 1_000_000 / 2).div_ceil(TENSOR);
    let mut values: Vec<Vec<u16>> =
        (0..count).map(|_| (0..TENSOR).map(|_| draws.random_range(0x3c00u16..0x3d00)).collect()).collect();

    let first = policy(0, &values);
    let total = first.total_bytes();
    let raw: Bytes = vec![1u8; total as usize].into();
    let mut raws = vec![];
    for _ in 0..rounds {
        raws.push(plain(&raw, receivers).await);
    }
    drop(raw);
    let raw = median(raws);
    let rate = |bytes: u64, seconds: f64| (bytes * receivers as u64) as f64 / seconds / 1e9;
    let raw_rate = rate(total, raw);
    println!(
        "{:.0} MB in {count} tensors to {receivers} receivers and one that reads nothing, median of {rounds}",
        total as f64 / 1e6
    );
    println!("plain TCP: {raw:.3} s, {raw_rate:.2} GB/s over all connections\n");
    println!(
        "| push | bytes of a receiver | until all have the bytes, s | GB/s in all | share of plain TCP | until all have verified it, s | publish call, us |"
    );
    println!("|---|---|---|---|---|---|---|");

    let lockstep = Lockstep { groups_per_batch: 1.try_into().unwrap(), lag: 0 };
    let (publisher, shelf) = Publisher::new(Pacing::Lockstep(lockstep));
    let (distribution, offer) =
        Distribution::new(shelf, DistributionSettings { anchor_every: 0, ..DistributionSettings::default() });
    tokio::spawn(distribution.run());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = RelaySettings { max_subscribers: 64, ..RelaySettings::default() };
    let (access, egress, stop) = (Access::default(), EgressLedger::default(), CancellationToken::new());
    tokio::spawn(relay::serve(offer, TcpListenerStream::new(listener), settings, access, egress, stop));
    publisher.publish(first);
    let frozen =
        transport::relay_client(channel(address)).subscribe_policy(policy::subscription(None, None)).await.unwrap();

    let (sender, mut arrived) = mpsc::channel(64);
    let mut pushes = vec![];
    for round in 0..rounds {
        let started = Instant::now();
        let tasks: Vec<_> = (0..receivers).map(|_| tokio::spawn(receive(address, sender.clone()))).collect();
        pushes.push(all(&mut arrived, receivers, started).await);
        // The last ones stay for the deltas.
        if round + 1 < rounds {
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
    let row = |name: &str, pushes: &[Push], publish: &str| {
        let of = |value: fn(&Push) -> f64| median(pushes.iter().map(value).collect());
        let (bytes, received, opened) = (pushes[0].bytes, of(|push| push.received), of(|push| push.opened));
        let share = 100.0 * bytes as f64 / total as f64;
        let rate = rate(bytes, received);
        println!(
            "| {name} | {bytes} ({share:.1} %) | {received:.3} | {rate:.2} | {:.0} % | {opened:.3} | {publish} |",
            100.0 * rate / raw_rate
        );
    };
    row("whole, new subscribers", &pushes, "-");

    let mut version = 0;
    for (share, learning_rate) in SHARES {
        let (mut pushes, mut calls) = (vec![], vec![]);
        for _ in 0..rounds {
            version += 1;
            for tensor in &mut values {
                tensor.iter_mut().for_each(|value| *value ^= u16::from(draws.random::<f64>() < share));
            }
            let next = policy(version, &values);
            let started = Instant::now();
            publisher.publish(next);
            calls.push(started.elapsed().as_secs_f64() * 1e6);
            pushes.push(all(&mut arrived, receivers, started).await);
        }
        let longest = calls.into_iter().fold(0.0, f64::max);
        row(
            &format!("delta, {:.2} % changed (learning rate {learning_rate})", 100.0 * share),
            &pushes,
            &format!("{longest:.0} at most"),
        );
    }
    drop(frozen);
}
