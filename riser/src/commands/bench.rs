//! `riser bench`: what this machine does in a second. One file per part.

mod catalog;

use crate::cli::{
    Format,
    bench::{Bench, Part},
};
use crate::clock::Stopwatch;

/// Measures and prints.
pub(crate) fn run(arguments: &Bench, format: Format) -> anyhow::Result<()> {
    match &arguments.part {
        Part::Catalog(arguments) => catalog::run(arguments, format),
    }
}

/// Median seconds of a call.
///
/// # Errors
/// The call's.
fn median_seconds(rounds: u32, mut call: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let watch = Stopwatch::start();
        call()?;
        seconds.push(watch.seconds());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
