//! How fast a catalog reaches a worker over loopback: `cargo run -p riser-tests --example catalog_transfer [MEGABYTES] [ROUNDS]`.
//!
//! A generated tree of random spellings, handed out by the coordinator's own service over TCP. Prints one Markdown row per
//! way to get it, the median over rounds, beside a copy of the same bytes in memory and their way through a plain socket.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]

use anyhow::Context;
use rand::Rng;
use riser::cluster::Place;
use riser_coordinator::catalog::CatalogService;
use riser_core::{catalog::CatalogCache, ids::WorkerId, prefix_tree::PrefixTree, random::Seed};
use riser_proto::{catalog::CatalogFile, transport};
use riser_rollout_worker::{
    WorkerConfig,
    catalog::{Sources, fetch},
};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Instant, SystemTime},
};

/// File bytes per item of a catalog with four random tokens to an item: all but the first are its own, a head and three links.
const BYTES_PER_ITEM: usize = 29;

fn tree(megabytes: usize) -> anyhow::Result<PrefixTree> {
    let mut draws = Seed(1).stream("catalog transfer", &[]);
    let items = megabytes * 1_000_000 / BYTES_PER_ITEM;
    let paths: Vec<[u32; 5]> = (0..items)
        .map(|_| {
            let [a, b, c, d] = std::array::from_fn(|_| draws.random_range(1..32_000));
            [a, b, c, d, 0]
        })
        .collect();
    Ok(PrefixTree::build(&paths)?)
}

/// Bytes through a plain socket of the loopback interface, into memory that is there already.
fn socket(bytes: &[u8]) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut received = vec![0; bytes.len()];
    let address = listener.local_addr()?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || TcpStream::connect(address)?.write_all(bytes));
        listener.accept()?.0.read_exact(&mut received)?;
        sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        Ok(started.elapsed().as_secs_f64())
    })
}

fn median(rounds: usize, mut once: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut seconds = (0..rounds).map(|_| once()).collect::<anyhow::Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[rounds / 2])
}

fn main() -> anyhow::Result<()> {
    let argument = |place: usize, default: usize| std::env::args().nth(place).map_or(Ok(default), |text| text.parse());
    let (megabytes, rounds) = (argument(1, 100)?, argument(2, 5)?.max(1));
    let tree = tree(megabytes)?;
    let bytes = tree.to_bytes();
    let file = CatalogFile::new(&tree);
    let gigabytes = bytes.len() as f64 / 1e9;
    println!(
        "{:.0} MB, {} items, {} nodes, {} chunks, median of {rounds}\n",
        1e3 * gigabytes,
        tree.num_items(),
        tree.num_nodes(),
        file.manifest().num_chunks()
    );
    println!("| what | seconds | GB/s |");
    println!("|---|---|---|");
    let row = |what: &str, seconds: f64| println!("| {what} | {seconds:.3} | {:.2} |", gigabytes / seconds);

    let mut copy = vec![0; bytes.len()];
    let copied = median(rounds, || {
        let started = Instant::now();
        copy.copy_from_slice(&bytes);
        Ok(started.elapsed().as_secs_f64())
    })?;
    row("copy in memory", copied);
    row("plain socket", median(rounds, || socket(&bytes))?);

    let runtime = tokio::runtime::Runtime::new()?;
    let _entered = runtime.enter();
    let Place { incoming, connect } = Place::loopback()?;
    let service = transport::catalog_server(CatalogService::new(file));
    runtime.spawn(async move { transport::server().add_service(service).serve_with_incoming(incoming).await });
    let folder = tempfile::tempdir()?;
    let transfer = |cache: Option<&Path>| -> anyhow::Result<f64> {
        let cache = cache.map(|folder| CatalogCache::open(folder, 8 << 30, SystemTime::now)).transpose()?;
        let started = Instant::now();
        let sources = Sources { cache, mirror: None };
        let fetched = runtime.block_on(fetch(&WorkerConfig::new(WorkerId(1)), connect().into(), sources, None))?;
        let seconds = started.elapsed().as_secs_f64();
        anyhow::ensure!(fetched.tree.digest() == tree.digest(), "another tree arrived");
        Ok(seconds)
    };
    row("fetched, no cache", median(rounds, || transfer(None))?);
    let mut place = 0;
    let cold = median(rounds, || {
        place += 1;
        transfer(Some(&folder.path().join(place.to_string())))
    })?;
    row("fetched into an empty cache", cold);
    let warm = folder.path().join("1");
    row("from a warm cache", median(rounds, || transfer(Some(&warm)))?);
    let path = std::fs::read_dir(&warm)?.next().context("the cache is empty")??.path();
    let opened = median(rounds, || {
        let started = Instant::now();
        drop(PrefixTree::open(&path)?);
        Ok(started.elapsed().as_secs_f64())
    })?;
    row("verifying the mapped file, alone", opened);
    Ok(())
}
