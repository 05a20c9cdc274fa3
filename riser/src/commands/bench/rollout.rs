//! `riser bench rollout`: groups sampled by one worker's model.

use super::{Spread, in_pool, machine, or_unknown, print, workload};
use crate::cli::Format;
use crate::cli::bench::Rollout;
use crate::clock::Stopwatch;
use riser_core::group::RolloutGroup;
use riser_policy::inference::Inference;
use serde::Serialize;

/// Measures on a pool of its own threads, and prints.
pub(super) fn run(arguments: &Rollout, format: Format) -> anyhow::Result<()> {
    let figures = in_pool(arguments.threads, || measure(arguments))?;
    print(&figures, format, Figures::text)
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
    rows_per_group: f64,
    /// If every sample were computed by itself, its prompt included.
    naive_rows_per_group: f64,
    gflop_per_group: f64,
    /// Of large square products, all threads together.
    peak_gflops: f64,
    gflops: f64,
    share_of_peak: f64,
    peak_memory_mib: Option<f64>,
}

fn measure(arguments: &Rollout) -> anyhow::Result<Figures> {
    let subject = workload::load(&arguments.workload)?;
    let sample =
        |inference: &Inference| subject.sample_by(inference, &arguments.workload, arguments.space, arguments.batch);
    let inference = subject.parameters.inference()?;
    let (groups, work) = (sample(&inference)?, inference.work());
    let (mut rounds, mut processor) = (vec![], Some(0.0));
    for _ in 0..arguments.rounds {
        // What one round remembers of the prompts must not help the next.
        let inference = subject.parameters.inference()?;
        let (watch, before) = (Stopwatch::start(), machine::processor_seconds());
        sample(&inference)?;
        rounds.push(watch.seconds());
        let taken = before.zip(machine::processor_seconds()).map(|(before, after)| after - before);
        processor = processor.zip(taken).map(|(sum, taken)| sum + taken);
    }
    let number = groups.len() as f64;
    let (peak, gflops) = (machine::matrix_peak(), work.forward / Spread::of(rounds.clone()).median / 1e9);
    Ok(Figures {
        workload: subject.name,
        parameters: subject.parameters.num_scalars(),
        space: arguments.space.to_string(),
        threads: arguments.threads,
        groups: groups.len(),
        samples: arguments.workload.samples,
        batch: arguments.batch,
        groups_per_second: Spread::of(rounds.iter().map(|seconds| number / seconds).collect()),
        groups_per_processor_second: processor.map(|seconds| number * arguments.rounds as f64 / seconds),
        distinct_per_group: groups.iter().map(|group| f64::from(group.unique)).sum::<f64>() / number,
        rows_per_group: work.rows as f64 / number,
        naive_rows_per_group: naive_rows(&groups) / number,
        gflop_per_group: work.forward / number / 1e9,
        peak_gflops: peak,
        gflops,
        share_of_peak: gflops / peak,
        peak_memory_mib: machine::peak_memory(),
    })
}

/// Tokens of all kept samples, each behind a prompt of its own, scaled to all that were drawn.
fn naive_rows(groups: &[RolloutGroup]) -> f64 {
    let of_group = |group: &RolloutGroup| {
        let kept = group.completions.iter().map(|it| group.prompt.len() + group.subtree.path(it.leaf).len() - 1);
        kept.sum::<usize>() as f64 * f64::from(group.sampled) / group.completions.len() as f64
    };
    groups.iter().map(of_group).sum()
}

impl Figures {
    fn text(&self) -> String {
        let Spread { median, least, most } = self.groups_per_second;
        let per_processor = or_unknown(self.groups_per_processor_second, 1);
        let memory = or_unknown(self.peak_memory_mib, 0);
        format!(
            "workload   {}: {} parameters, {} space\n\
             rollouts   {} groups of {} samples, {} prompts at a time on {} threads\n\
             speed      {median:.1} groups/s ({least:.1} .. {most:.1}), {per_processor} per second of processor time\n\
             distinct   {:.1} items per group\n\
             rows       {:.1} per group, {:.0} if every sample were computed by itself: {:.1} times as many\n\
             work       {:.3} GFLOP per group\n\
             rate       {:.1} GFLOP/s, {:.1} % of the matrix peak of {:.1}\n\
             memory     {memory} MiB at most\n",
            self.workload,
            self.parameters,
            self.space,
            self.groups,
            self.samples,
            self.batch,
            self.threads,
            self.distinct_per_group,
            self.rows_per_group,
            self.naive_rows_per_group,
            self.naive_rows_per_group / self.rows_per_group,
            self.gflop_per_group,
            self.gflops,
            100.0 * self.share_of_peak,
            self.peak_gflops,
        )
    }
}
