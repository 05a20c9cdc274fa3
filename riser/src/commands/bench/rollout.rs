//! `riser bench rollout`: groups sampled by one worker's model.

use super::{Spread, machine, workload};
use crate::cli::Format;
use crate::cli::bench::Rollout;
use crate::clock::Stopwatch;
use crate::failure::Usage;
use crate::output;
use serde::Serialize;

/// Measures on a pool of its own threads, and prints.
pub(super) fn run(arguments: &Rollout, format: Format) -> anyhow::Result<()> {
    if arguments.rounds == 0 || arguments.threads == 0 || arguments.batch == 0 || arguments.workload.groups == 0 {
        return Err(Usage("--rounds, --threads, --batch and --groups are at least 1".to_owned()).into());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build()?;
    let figures = pool.install(|| measure(arguments))?;
    match format {
        Format::Text => output::data(figures.text()),
        Format::Json => output::json(&figures),
    }
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    workload: String,
    parameters: usize,
    space: String,
    threads: usize,
    groups: usize,
    samples: usize,
    batch: usize,
    /// Wall time.
    groups_per_second: Spread,
    groups_per_processor_second: Option<f64>,
    distinct_per_group: f64,
    peak_memory_mib: Option<f64>,
}

fn measure(arguments: &Rollout) -> anyhow::Result<Figures> {
    let subject = workload::load(&arguments.workload)?;
    let groups = subject.sample(&arguments.workload, arguments.space, arguments.batch)?;
    let mut rounds = vec![];
    let before = machine::processor_seconds();
    for _ in 0..arguments.rounds {
        let watch = Stopwatch::start();
        subject.sample(&arguments.workload, arguments.space, arguments.batch)?;
        rounds.push(watch.seconds());
    }
    let processor = before.zip(machine::processor_seconds()).map(|(before, after)| after - before);
    let number = groups.len() as f64;
    Ok(Figures {
        workload: subject.name,
        parameters: subject.parameters.num_scalars(),
        space: arguments.space.to_string(),
        threads: arguments.threads,
        groups: groups.len(),
        samples: arguments.workload.samples,
        batch: arguments.batch,
        groups_per_second: Spread::of(rounds.iter().map(|seconds| number / seconds).collect()),
        groups_per_processor_second: processor.map(|seconds| number * f64::from(arguments.rounds) / seconds),
        distinct_per_group: groups.iter().map(|group| f64::from(group.unique)).sum::<f64>() / number,
        peak_memory_mib: machine::peak_memory(),
    })
}

impl Figures {
    fn text(&self) -> String {
        let Spread { median, least, most } = self.groups_per_second;
        let per_processor = self.groups_per_processor_second.map_or("?".to_owned(), |rate| format!("{rate:.1}"));
        let memory = self.peak_memory_mib.map_or("?".to_owned(), |mib| format!("{mib:.0}"));
        format!(
            "workload   {}: {} parameters, {} space\n\
             rollouts   {} groups of {} samples, {} prompts at a time on {} threads\n\
             speed      {median:.1} groups/s ({least:.1} .. {most:.1}), {per_processor} per second of processor time\n\
             distinct   {:.1} items per group\n\
             memory     {memory} MiB at most\n",
            self.workload,
            self.parameters,
            self.space,
            self.groups,
            self.samples,
            self.batch,
            self.threads,
            self.distinct_per_group,
        )
    }
}
