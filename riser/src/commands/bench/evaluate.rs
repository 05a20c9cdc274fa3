//! `riser bench evaluate`: ways to rank items for users.

use super::lists::{Differences, Entry};
use super::{Spread, in_pool, machine, or_unknown, print, workload};
use crate::cli::Format;
use crate::cli::bench::{Evaluate, Method};
use crate::clock::Stopwatch;
use crate::failure::Usage;
use crate::table;
use anyhow::Context;
use rayon::prelude::*;
use riser_core::prefix_tree::PrefixTree;
use riser_policy::core_tree::CoreTree;
use riser_policy::cost::Cost;
use riser_policy::inference::Inference;
use riser_policy::ranking::Ranked;
use riser_policy::{TensorError, beam, search};
use serde::Serialize;
use std::collections::BTreeMap;

/// Measures on a pool of its own threads, and prints.
pub(super) fn run(arguments: &Evaluate, format: Format) -> anyhow::Result<()> {
    let figures = in_pool(arguments.threads, || measure(arguments))?;
    print(&figures, format, Figures::text)
}

#[derive(Debug, Serialize)]
struct Figures {
    workload: String,
    parameters: usize,
    items: usize,
    space: String,
    users: usize,
    k: usize,
    threads: usize,
    /// Of large square products, all threads together.
    peak_gflops: f64,
    users_per_call: usize,
    methods: BTreeMap<&'static str, Speed>,
    /// Of lists beside those of the exact search.
    differences: BTreeMap<String, Differences>,
}

/// What one method takes.
#[derive(Debug, Serialize)]
struct Speed {
    /// Wall time.
    users_per_second: Spread,
    /// Processor time of all threads: what one thread would do if nobody else used the machine.
    users_per_processor_second: Option<f64>,
    /// Rows that the model computed, those of the prompt included.
    rows_per_user: f64,
    passes_per_call: f64,
    gflop_per_user: f64,
    gflops: f64,
    share_of_peak: f64,
    /// While the method ran, model and catalog included.
    peak_memory_mib: Option<f64>,
}

/// How one method ranks.
struct Searcher<'a> {
    method: Method,
    catalog: &'a PrefixTree,
    core: CoreTree<'a>,
    arguments: &'a Evaluate,
}

impl Searcher<'_> {
    /// The lists of a few users.
    fn lists(&self, inference: &Inference, prompts: &[&[u32]]) -> Result<Vec<Vec<Ranked>>, TensorError> {
        let (k, space) = (self.arguments.k, self.arguments.space);
        match self.method {
            Method::Exact => search::top_k(inference, self.catalog, space, prompts, k),
            Method::Beam => beam::beam_search(inference, self.catalog, space, prompts, k),
            Method::Full => self.core.leaf_logprobs(inference, prompts),
        }
    }

    fn name(&self) -> &'static str {
        match self.method {
            Method::Exact => "exact",
            Method::Beam => "beam",
            Method::Full => "full",
        }
    }
}

#[derive(Default)]
struct Measured {
    seconds: Vec<f64>,
    processor: f64,
    work: Cost,
    peak: f64,
    lists: Vec<Vec<Ranked>>,
}

fn measure(arguments: &Evaluate) -> anyhow::Result<Figures> {
    let subject = workload::load(&arguments.workload)?;
    let catalog = &subject.catalog;
    let prompts: Vec<&[u32]> = subject.prompts.iter().map(|request| request.prompt.as_slice()).collect();
    let all = [Method::Exact, Method::Beam, Method::Full];
    let methods: Vec<Searcher<'_>> = all
        .into_iter()
        .filter(|method| arguments.methods.is_empty() || arguments.methods.contains(method))
        .map(|method| Searcher { method, catalog, core: CoreTree::new(catalog, arguments.space), arguments })
        .collect();
    // Before anything takes long, so that a list that does not fit is told at once.
    let foreign = foreign(arguments, catalog, prompts.len())?;
    let mut measured: Vec<Measured> = methods.iter().map(|_| Measured::default()).collect();
    for _ in 0..arguments.rounds {
        for (searcher, measured) in methods.iter().zip(&mut measured) {
            // What one round remembers of the prompts must not help the next.
            let inference = subject.parameters.inference()?;
            measured.round(searcher, &inference, &prompts, arguments.users_per_call)?;
        }
    }

    let of = |method| methods.iter().position(|searcher| searcher.method == method).map(|at| &measured[at].lists);
    let mut differences = BTreeMap::new();
    if let Some(exact) = of(Method::Exact) {
        if let Some(lists) = of(Method::Beam) {
            differences.insert(format!("beam {}", arguments.k), Differences::of(lists, exact));
        }
        if let Some(path) = &arguments.lists {
            differences.insert(path.display().to_string(), Differences::of(&foreign, exact));
        }
    }
    let (users, peak) = (prompts.len() as f64, machine::matrix_peak());
    let calls = prompts.len().div_ceil(arguments.users_per_call) as f64;
    Ok(Figures {
        workload: subject.name,
        parameters: subject.parameters.num_scalars(),
        items: catalog.num_items(),
        space: arguments.space.to_string(),
        users: prompts.len(),
        k: arguments.k,
        threads: arguments.threads,
        peak_gflops: peak,
        users_per_call: arguments.users_per_call,
        methods: methods
            .iter()
            .zip(measured)
            .map(|(s, measured)| (s.name(), measured.speed(users, calls, peak)))
            .collect(),
        differences,
    })
}

impl Measured {
    /// All users once; only the lists of the exact search and the beam are kept.
    fn round(
        &mut self,
        searcher: &Searcher<'_>,
        inference: &Inference,
        prompts: &[&[u32]],
        users_per_call: usize,
    ) -> anyhow::Result<()> {
        machine::forget_peak_memory();
        let (watch, before) = (Stopwatch::start(), machine::processor_seconds());
        let chunks: Vec<&[&[u32]]> = prompts.chunks(users_per_call).collect();
        let keeps = searcher.method != Method::Full;
        let of_chunk = |chunk: &&[&[u32]]| {
            let lists = searcher.lists(inference, chunk)?;
            Ok::<_, TensorError>(if keeps { lists } else { vec![] })
        };
        let found: Vec<Vec<Vec<Ranked>>> = chunks.par_iter().with_max_len(1).map(of_chunk).collect::<Result<_, _>>()?;
        self.seconds.push(watch.seconds());
        let processor = before.zip(machine::processor_seconds()).map(|(before, after)| after - before);
        self.processor += processor.unwrap_or(f64::NAN);
        self.peak = self.peak.max(machine::peak_memory().unwrap_or(f64::NAN));
        self.lists = found.into_iter().flatten().collect();
        self.work = inference.work();
        Ok(())
    }

    fn speed(self, users: f64, calls: f64, peak: f64) -> Speed {
        let rounds = self.seconds.len() as f64;
        let gflops = self.work.forward / Spread::of(self.seconds.clone()).median / 1e9;
        let finite = |value: f64| value.is_finite().then_some(value);
        Speed {
            users_per_second: Spread::of(self.seconds.iter().map(|seconds| users / seconds).collect()),
            users_per_processor_second: finite(rounds * users / self.processor),
            rows_per_user: self.work.rows as f64 / users,
            passes_per_call: self.work.passes as f64 / calls,
            gflop_per_user: self.work.forward / users / 1e9,
            gflops,
            share_of_peak: gflops / peak,
            peak_memory_mib: finite(self.peak).filter(|&peak| peak > 0.0),
        }
    }
}

/// The lists that another program found for the same users.
fn foreign(arguments: &Evaluate, catalog: &PrefixTree, users: usize) -> anyhow::Result<Vec<Vec<Ranked>>> {
    let Some(path) = &arguments.lists else { return Ok(vec![]) };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lists: Vec<Vec<Entry>> = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} holds no lists of items with scores", path.display()))?;
    if lists.len() != users {
        return Err(Usage(format!("{} has lists of {} users, not of {users}", path.display(), lists.len())).into());
    }
    let list = |list: &Vec<Entry>| list.iter().map(|entry| entry.ranked(catalog)).collect::<Option<Vec<Ranked>>>();
    lists
        .iter()
        .map(list)
        .collect::<Option<_>>()
        .ok_or_else(|| Usage(format!("{} names an item that the catalog does not have", path.display())).into())
}

impl Figures {
    fn text(&self) -> String {
        let speeds: Vec<Vec<String>> = self
            .methods
            .iter()
            .map(|(name, speed)| {
                let Spread { median, least, most } = speed.users_per_second;
                vec![
                    (*name).to_owned(),
                    format!("{median:.1} ({least:.1} .. {most:.1})"),
                    or_unknown(speed.users_per_processor_second, 1),
                    format!("{:.1}", speed.rows_per_user),
                    format!("{:.1}", speed.passes_per_call),
                    format!("{:.1}", speed.gflops),
                    format!("{:.1} %", 100.0 * speed.share_of_peak),
                    or_unknown(speed.peak_memory_mib, 0),
                ]
            })
            .collect();
        let header = [
            "",
            "users/s",
            "per processor second",
            "rows per user",
            "passes per call",
            "GFLOP/s",
            "of the matrix peak",
            "peak MiB",
        ];
        let mut text = format!(
            "workload   {}: {} parameters, {} items, {} space\nsearch     top {} of {} users on {} threads, {} users a call\n\n{}",
            self.workload,
            self.parameters,
            self.items,
            self.space,
            self.k,
            self.users,
            self.threads,
            self.users_per_call,
            table::render(&header, &speeds),
        );
        if !self.differences.is_empty() {
            let rows: Vec<Vec<String>> =
                self.differences.iter().map(|(name, differences)| differences.cells(name)).collect();
            text += &format!("\n{}", table::render(&Differences::HEADER, &rows));
        }
        text
    }
}
