//! `riser bench`: figures of this machine, one file per subject.

mod catalog;
mod evaluate;
mod learner;
mod lists;
mod machine;
mod objective;
mod rollout;
mod weights;
mod workload;

use crate::cli::{Format, bench};
use crate::clock::Stopwatch;
use crate::output;
use serde::Serialize;
use std::hint::black_box;

/// Measures and prints.
pub(crate) fn run(arguments: &bench::Bench, format: Format) -> anyhow::Result<()> {
    let format = if arguments.json { Format::Json } else { format };
    match &arguments.subject {
        bench::Subject::Rollout(subject) => rollout::run(subject, format),
        bench::Subject::Learner(subject) => learner::run(subject, format),
        bench::Subject::Evaluate(subject) => evaluate::run(subject, format),
        bench::Subject::Catalog(subject) => catalog::run(subject, format),
        bench::Subject::Weights(subject) => weights::run(subject, format),
        bench::Subject::Objective(subject) => objective::run(subject, format),
    }
}

/// Measures on a pool of so many threads, which nothing else uses.
fn in_pool<T: Send>(threads: usize, measure: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(measure)
}

/// Prints what was measured.
fn print<T: Serialize>(figures: &T, format: Format, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    match format {
        Format::Text => output::data(text(figures)),
        Format::Json => output::json(figures),
    }
}

/// A figure that the system may not give.
fn or_unknown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or("?".to_owned(), |figure| format!("{figure:.digits$}"))
}

/// Median, smallest and largest of several measurements.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of at least one measurement.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, least: values[0], most: values[values.len() - 1] }
    }
}

/// Median seconds of a call; what becomes of its result is not measured.
///
/// # Errors
/// The call's.
fn median_seconds<T>(rounds: usize, mut call: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let watch = Stopwatch::start();
        let result = black_box(call()?);
        seconds.push(watch.seconds());
        drop(result);
    }
    Ok(Spread::of(seconds).median)
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 10.0]);
        assert_eq!((spread.median, spread.least, spread.most), (3.5, 1.0, 10.0));
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
    }
}
