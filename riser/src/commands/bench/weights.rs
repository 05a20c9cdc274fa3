//! `riser bench weights`: a policy on its way from the optimizer to a worker.

use super::{Spread, machine, or_unknown, print, workload};
use crate::cli::{Format, bench::Weights};
use crate::clock::Stopwatch;
use crate::table;
use riser_core::delta::{Packing, PolicyDelta, apply, changed_elements, encode};
use riser_core::ids::PolicyVersion;
use riser_core::logprob_space::LogprobSpace;
use riser_core::objective::Preset;
use riser_core::snapshot::{PolicySnapshot, TensorDtype};
use riser_policy::reinforce::Reinforce;
use riser_policy::training::Training;
use serde::Serialize;
use std::collections::BTreeMap;
use std::hint::black_box;

/// What is printed.
#[derive(Debug, Serialize)]
struct Figures {
    workload: String,
    parameters: usize,
    served: TensorDtype,
    learning_rate: f64,
    updates: usize,
    policy_bytes: u64,
    /// Of the served elements, in one update.
    changed_share: f64,
    delta_bytes: f64,
    /// Median wall time of each part.
    milliseconds: BTreeMap<&'static str, f64>,
    /// Bytes of the served policy over that time, in GB/s.
    gigabytes_per_second: BTreeMap<&'static str, f64>,
    peak_memory_mib: Option<f64>,
}

/// Measures and prints.
pub(super) fn run(arguments: &Weights, format: Format) -> anyhow::Result<()> {
    print(&measure(arguments)?, format, Figures::table)
}

fn measure(arguments: &Weights) -> anyhow::Result<Figures> {
    let (space, dtype) = (LogprobSpace::Catalog, arguments.served);
    let subject = workload::load(&arguments.workload)?;
    let groups = subject.sample(&arguments.workload, space)?;
    let settings = workload::settings(Preset::Riser, space, arguments.learning_rate);
    let training = Training::new(subject.parameters.duplicate()?, settings.optimizer)?;
    let mut learner = Reinforce::new(training, &subject.parameters, settings)?;
    learner.step(&subject.catalog, &groups)?;
    let mut before = learner.serve(PolicyVersion(1), dtype)?.1;

    let mut parts = BTreeMap::<&'static str, Vec<f64>>::new();
    let (mut changed, mut sizes) = (vec![], vec![]);
    for version in 2..2 + arguments.updates as u64 {
        learner.step(&subject.catalog, &groups)?;
        let mut timed = Timed(&mut parts);
        let version = PolicyVersion(version);
        let whole = timed.run("snapshot", || learner.training().parameters().snapshot(version))?;
        let after = timed.run("serve", || learner.serve(version, dtype))?.1;
        let again = timed.run("convert", || whole.served_as(dtype))?;
        timed.run("digests", || {
            after.tensors().iter().for_each(|it| _ = black_box(riser_core::digest::Digest::of(it.bytes())))
        });
        // Knows nothing of its changes.
        let compared = PolicySnapshot::new(version, again.tensors().to_vec())?;
        let delta = timed.run("delta by comparison", || encode(&before, &compared, Packing::WhenItPays))?;
        let noticed = timed.run("delta of noted changes", || encode(&before, &after, Packing::WhenItPays))?;
        anyhow::ensure!(delta.encoded() == noticed.encoded(), "the two deltas of version {version} differ");
        let read = timed.run("decode", || PolicyDelta::decode(delta.encoded().clone()))?;
        let applied = timed.run("apply", || apply(&before, &read))?;
        anyhow::ensure!(applied.identity() == after.identity(), "the delta of version {version} leads elsewhere");
        timed.run("copy in memory", || {
            after.tensors().iter().for_each(|tensor| _ = black_box(tensor.bytes().to_vec()));
        });
        changed.push(changed_elements(&before, &after) as f64 / subject.parameters.num_scalars() as f64);
        sizes.push(delta.encoded_bytes() as f64);
        before = after;
    }
    let seconds: BTreeMap<_, _> = parts.into_iter().map(|(name, all)| (name, Spread::of(all).median)).collect();
    let policy_bytes = before.total_bytes();
    Ok(Figures {
        workload: subject.name,
        parameters: subject.parameters.num_scalars(),
        served: dtype,
        learning_rate: arguments.learning_rate,
        updates: arguments.updates,
        policy_bytes,
        changed_share: Spread::of(changed).median,
        delta_bytes: Spread::of(sizes).median,
        gigabytes_per_second: seconds.iter().map(|(name, it)| (*name, policy_bytes as f64 / it / 1e9)).collect(),
        peak_memory_mib: machine::peak_memory(),
        milliseconds: seconds.into_iter().map(|(name, seconds)| (name, 1e3 * seconds)).collect(),
    })
}

/// Seconds of calls by name.
struct Timed<'a>(&'a mut BTreeMap<&'static str, Vec<f64>>);

impl Timed<'_> {
    fn run<T>(&mut self, name: &'static str, call: impl FnOnce() -> T) -> T {
        let watch = Stopwatch::start();
        let result = black_box(call());
        self.0.entry(name).or_default().push(watch.seconds());
        result
    }
}

impl Figures {
    fn table(&self) -> String {
        let mut rows = vec![
            vec!["parameters".to_owned(), self.parameters.to_string(), String::new()],
            vec![format!("bytes in {}", self.served.name()), self.policy_bytes.to_string(), String::new()],
            vec!["changed elements".to_owned(), format!("{:.2} %", 100.0 * self.changed_share), String::new()],
            vec!["bytes of a delta".to_owned(), format!("{:.0}", self.delta_bytes), String::new()],
            vec!["memory at most".to_owned(), or_unknown(self.peak_memory_mib, 0) + " MiB", String::new()],
        ];
        rows.extend(self.milliseconds.iter().map(|(name, milliseconds)| {
            let rate = self.gigabytes_per_second.get(name).copied().unwrap_or(0.0);
            vec![(*name).to_owned(), format!("{milliseconds:.3} ms"), format!("{rate:.2} GB/s")]
        }));
        table::render(&["weights", "", ""], &rows)
    }
}
