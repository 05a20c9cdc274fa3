//! `riser bench`: what this machine does in a second. One file per part.

mod catalog;

use crate::cli::{
    Format,
    bench::{Bench, Part},
};
use crate::clock::Stopwatch;
use std::hint::black_box;

/// Measures and prints.
pub(crate) fn run(arguments: &Bench, format: Format) -> anyhow::Result<()> {
    match &arguments.part {
        Part::Catalog(arguments) => catalog::run(arguments, format),
    }
}

/// Median seconds of a call; what becomes of its result is not measured.
///
/// # Errors
/// The call's.
fn median_seconds<T>(rounds: u32, mut call: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let watch = Stopwatch::start();
        let result = black_box(call()?);
        seconds.push(watch.seconds());
        drop(result);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
