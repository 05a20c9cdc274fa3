//! `riser bench objective`: the loss alone, without any model.

use super::{median_seconds, print, workload};
use crate::cli::{Format, bench::Objective};
use crate::table;
use riser_core::objective::{Preset, evaluate};
use riser_policy::reinforce::Reinforce;
use riser_policy::training::Training;
use serde::Serialize;

/// What is printed for a preset.
#[derive(Debug, Serialize)]
struct Figures {
    preset: Preset,
    groups: usize,
    /// Of all completions and of the targets that the loss looks at.
    tokens: usize,
    microseconds_per_group: f64,
    nanoseconds_per_token: f64,
}

/// Measures and prints.
pub(super) fn run(arguments: &Objective, format: Format) -> anyhow::Result<()> {
    print(&measure(arguments)?, format, |figures| render(figures))
}

fn measure(arguments: &Objective) -> anyhow::Result<Vec<Figures>> {
    let subject = workload::load(&arguments.workload)?;
    let groups = subject.sample(&arguments.workload, arguments.space)?;
    let of_preset = |preset: Preset| {
        let settings = workload::settings(preset, arguments.space, 1e-6);
        let objective = settings.objective;
        let training = Training::new(subject.parameters.duplicate()?, settings.optimizer)?;
        let batch = Reinforce::new(training, &subject.parameters, settings)?.scored(&subject.catalog, &groups)?;
        let seconds = median_seconds(arguments.rounds, || Ok(evaluate(&objective, &batch)?))?;
        let of_group = |group: &riser_core::objective::Group| {
            group.completions.iter().map(|completion| completion.logprob.len()).sum::<usize>()
                + group.target.logprob.len()
        };
        let tokens: usize = batch.iter().map(of_group).sum();
        anyhow::Ok(Figures {
            preset,
            groups: batch.len(),
            tokens,
            microseconds_per_group: 1e6 * seconds / batch.len() as f64,
            nanoseconds_per_token: 1e9 * seconds / tokens as f64,
        })
    };
    Preset::ALL.into_iter().map(of_preset).collect()
}

fn render(figures: &[Figures]) -> String {
    let row = |it: &Figures| {
        vec![
            it.preset.to_string(),
            it.groups.to_string(),
            it.tokens.to_string(),
            format!("{:.2} us", it.microseconds_per_group),
            format!("{:.1} ns", it.nanoseconds_per_token),
        ]
    };
    let rows: Vec<_> = figures.iter().map(row).collect();
    table::render(&["preset", "groups", "tokens", "per group", "per token"], &rows)
}
