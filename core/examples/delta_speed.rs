//! How fast deltas are made and applied: `cargo run --release -p riser-core --example delta_speed [MEGABYTES] [ROUNDS]`.
//!
//! A bf16 policy of many tensors; in the next version a share of all elements is one unit in the last place larger or
//! smaller, at random places. Prints one Markdown row per share and packing: the median over rounds.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "standard output is what this program is for")]
#![expect(clippy::unwrap_used, reason = "a measurement ends at the first surprise")]

mod synthetic_policy;

use rand::Rng;
use riser_core::{
    delta::{Packing, PolicyDelta, apply, encode},
    random::Seed,
};
use std::time::Instant;
use synthetic_policy::{TENSOR, policy};

/// Median seconds of a call and its last result.
fn median<T>(rounds: usize, mut call: impl FnMut() -> T) -> (f64, T) {
    let mut seconds = vec![];
    let mut last = None;
    for _ in 0..rounds {
        drop(last.take());
        let started = Instant::now();
        last = Some(call());
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    (seconds[rounds / 2], last.unwrap())
}

fn main() {
    let argument = |place: usize, default: usize| std::env::args().nth(place).map_or(default, |it| it.parse().unwrap());
    let (megabytes, rounds) = (argument(1, 200), argument(2, 5).max(1));
    let mut draws = Seed(1).stream("delta speed", &[]);
    // Weights around 0.02 of either sign.
    let mut weight = || draws.random_range(0x3c00u16..0x3d00) | (draws.random_range(0..2u16) << 15);
    let count = (megabytes * 1_000_000 / 2).div_ceil(TENSOR);
    let base: Vec<Vec<u16>> = (0..count).map(|_| (0..TENSOR).map(|_| weight()).collect()).collect();
    let from = policy(0, &base);
    let gigabytes = from.total_bytes() as f64 / 1e9;
    println!("{:.0} MB in {count} tensors, median of {rounds}, one thread\n", 1e3 * gigabytes);
    println!("| changed | packing | size | encode GB/s | decode and apply GB/s | encode s | apply s |");
    println!("|---|---|---|---|---|---|---|");
    for share in [0.0001, 0.002, 0.02, 0.2, 0.6] {
        let mut draws = Seed(2).stream("delta speed changes", &[]);
        let mut change = |value: u16| match draws.random::<f64>() < share {
            true => value ^ 1,
            false => value,
        };
        let changed: Vec<Vec<u16>> = base.iter().map(|values| values.iter().map(|&it| change(it)).collect()).collect();
        let to = policy(1, &changed);
        for packing in [Packing::Never, Packing::WhenItPays] {
            let (encode_seconds, delta) = median(rounds, || encode(&from, &to, packing).unwrap());
            let encoded = delta.encoded().clone();
            let (apply_seconds, next) =
                median(rounds, || apply(&from, &PolicyDelta::decode(encoded.clone()).unwrap()).unwrap());
            assert_eq!(next, to);
            println!(
                "| {:.2} % | {packing:?} | {:.2} % | {:.2} | {:.2} | {encode_seconds:.3} | {apply_seconds:.3} |",
                100.0 * share,
                100.0 * delta.encoded_bytes() as f64 / from.total_bytes() as f64,
                gigabytes / encode_seconds,
                gigabytes / apply_seconds,
            );
        }
    }
}
