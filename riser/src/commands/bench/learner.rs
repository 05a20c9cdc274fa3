//! `riser bench learner`: update steps on fixed groups.

use super::{Spread, in_pool, machine, or_unknown, print, workload};
use crate::cli::Format;
use crate::cli::bench::{Learner, Workload};
use crate::clock::Stopwatch;
use riser_core::group::RolloutGroup;
use riser_core::objective::Preset;
use riser_policy::cost::Cost;
use riser_policy::memory::MemoryPlan;
use riser_policy::reinforce::{Phase, Reinforce, ReinforceSettings};
use riser_policy::training::Training;
use serde::Serialize;
use std::collections::BTreeMap;

/// Measures on a pool of its own threads, and prints.
pub(super) fn run(arguments: &Learner, format: Format) -> anyhow::Result<()> {
    let figures = in_pool(arguments.threads, || measure(arguments))?;
    print(&figures, format, Figures::text)
}

/// What was measured. Rates count the products of one forward and one backward pass, nothing else and nothing twice.
#[derive(Debug, Serialize)]
struct Figures {
    workload: String,
    parameters: usize,
    hidden: usize,
    layers: usize,
    space: String,
    preset: Preset,
    threads: usize,
    groups: usize,
    batches: usize,
    updates: usize,
    /// Wall time.
    groups_per_second: Spread,
    /// Processor time of all threads: what the rate would be if nobody else used the machine.
    groups_per_processor_second: Option<f64>,
    rows_per_group: f64,
    naive_rows_per_group: f64,
    gflop_per_group: f64,
    /// Of large square products, all threads together.
    peak_gflops: f64,
    /// In the forward and backward passes alone.
    passes_gflops: f64,
    passes_share_of_peak: f64,
    /// Over whole updates. Both are medians.
    update_gflops: f64,
    update_share_of_peak: f64,
    /// Median wall time of each part of an update.
    milliseconds: BTreeMap<String, f64>,
    /// Estimated before anything is computed: what is there whatever the batch, and the tapes of one pass.
    fixed_mib: f64,
    tapes_mib: f64,
    /// Passes of an update.
    passes: usize,
    /// What the tapes have held at most.
    tapes_held_mib: f64,
    peak_memory_mib: Option<f64>,
}

fn measure(arguments: &Learner) -> anyhow::Result<Figures> {
    let per_batch = arguments.workload.groups;
    let all = Workload { groups: per_batch * arguments.batches, ..arguments.workload.clone() };
    let subject = workload::load(&all)?;
    let groups = subject.sample(&all, arguments.space)?;
    let batches: Vec<&[RolloutGroup]> = groups.chunks(per_batch).collect();
    let settings = settings(arguments);
    let training = Training::new(subject.parameters.duplicate()?, settings.optimizer)?;
    let mut learner = Reinforce::new(training, &subject.parameters, settings)?;
    let costs: Vec<Cost> = batches.iter().map(|batch| learner.cost(&subject.catalog, batch)).collect();
    let plans: Vec<MemoryPlan> =
        batches.iter().map(|batch| learner.memory(&subject.catalog, batch)).collect::<Result<_, _>>()?;
    let peak = machine::matrix_peak();
    let mut naive_rows = 0;
    for batch in &batches {
        naive_rows += learner.step(&subject.catalog, batch)?.naive_rows;
    }

    let (mut steps, mut phases) = (vec![], BTreeMap::<Phase, Vec<f64>>::new());
    let (mut passes_rates, mut update_rates) = (vec![], vec![]);
    let before = machine::processor_seconds();
    for (batch, cost) in batches.iter().zip(&costs).cycle().take(arguments.updates) {
        let (watch, mut last) = (Stopwatch::start(), 0.0);
        let mut parts = BTreeMap::<Phase, f64>::new();
        learner.watched_step(&subject.catalog, batch, &mut |phase| {
            let now = watch.seconds();
            *parts.entry(phase).or_default() += now - last;
            last = now;
        })?;
        steps.push(watch.seconds());
        let operations = cost.forward + cost.backward();
        let in_passes: f64 = [Phase::Forward, Phase::Backward].iter().filter_map(|phase| parts.get(phase)).sum();
        passes_rates.push(operations / in_passes / 1e9);
        update_rates.push(operations / steps[steps.len() - 1] / 1e9);
        parts.into_iter().for_each(|(phase, seconds)| phases.entry(phase).or_default().push(seconds));
    }
    let processor = before.zip(machine::processor_seconds()).map(|(before, after)| after - before);

    let medians: BTreeMap<Phase, f64> =
        phases.into_iter().map(|(phase, seconds)| (phase, Spread::of(seconds).median)).collect();
    let (all, number) = (groups.len() as f64, per_batch as f64);
    let (passes_gflops, update_gflops) = (Spread::of(passes_rates).median, Spread::of(update_rates).median);
    let rows: usize = costs.iter().map(|cost| cost.rows).sum();
    let operations: f64 = costs.iter().map(|cost| cost.forward + cost.backward()).sum();
    Ok(Figures {
        workload: subject.name,
        parameters: subject.parameters.num_scalars(),
        hidden: subject.parameters.shape().hidden_size,
        layers: subject.parameters.shape().num_hidden_layers,
        space: arguments.space.to_string(),
        preset: arguments.preset,
        threads: arguments.threads,
        groups: per_batch,
        batches: batches.len(),
        updates: arguments.updates,
        groups_per_second: Spread::of(steps.iter().map(|seconds| number / seconds).collect()),
        groups_per_processor_second: processor.map(|seconds| number * arguments.updates as f64 / seconds),
        rows_per_group: rows as f64 / all,
        naive_rows_per_group: naive_rows as f64 / all,
        gflop_per_group: operations / all / 1e9,
        peak_gflops: peak,
        passes_gflops,
        passes_share_of_peak: passes_gflops / peak,
        update_gflops,
        update_share_of_peak: update_gflops / peak,
        milliseconds: medians
            .into_iter()
            .map(|(phase, seconds)| (format!("{phase:?}").to_lowercase(), seconds * 1e3))
            .collect(),
        fixed_mib: mib(plans[0].fixed_bytes),
        tapes_mib: mib(plans.iter().map(|plan| plan.tape_bytes).max().unwrap_or(0)),
        passes: plans.iter().map(|plan| plan.passes).max().unwrap_or(0),
        tapes_held_mib: mib(learner.training().most_tape_bytes()),
        peak_memory_mib: machine::peak_memory(),
    })
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn settings(arguments: &Learner) -> ReinforceSettings {
    ReinforceSettings {
        micro_batch_tokens: arguments.micro_batch_tokens,
        memory_limit: arguments.memory_limit.map(|limit| usize::try_from(limit.0).unwrap_or(usize::MAX)),
        // So small that every update does the same work.
        ..workload::settings(arguments.preset, arguments.space, 1e-6)
    }
}

impl Figures {
    fn text(&self) -> String {
        let Spread { median, least, most } = self.groups_per_second;
        let per_processor = or_unknown(self.groups_per_processor_second, 1);
        let memory = or_unknown(self.peak_memory_mib, 0);
        let parts =
            self.milliseconds.iter().map(|(phase, ms)| format!("{phase} {ms:.1}")).collect::<Vec<_>>().join(", ");
        format!(
            "workload   {}: {} parameters, {} space, {} objective\n\
             updates    {} of {} groups, {} batches in turn, on {} threads\n\
             speed      {median:.1} groups/s ({least:.1} .. {most:.1}), {per_processor} per second of processor time\n\
             rows       {:.1} per group, {:.1} if every completion had its own prompt: {:.1} times as many\n\
             work       {:.3} GFLOP per group, forward and backward\n\
             rate       {:.1} GFLOP/s in the passes, {:.1} over the update; matrix peak {:.1}\n\
             share      {:.1} % of the peak in the passes, {:.1} % over the update\n\
             parts, ms  {parts}\n\
             memory     {memory} MiB at most; estimated {:.0} for model and optimizer, {:.0} for the tapes of each of {} passes\n\
             tapes      {:.0} MiB at most\n",
            self.workload,
            self.parameters,
            self.space,
            self.preset,
            self.updates,
            self.groups,
            self.batches,
            self.threads,
            self.rows_per_group,
            self.naive_rows_per_group,
            self.naive_rows_per_group / self.rows_per_group,
            self.gflop_per_group,
            self.passes_gflops,
            self.update_gflops,
            self.peak_gflops,
            100.0 * self.passes_share_of_peak,
            100.0 * self.update_share_of_peak,
            self.fixed_mib,
            self.tapes_mib,
            self.passes,
            self.tapes_held_mib,
        )
    }
}
