//! `riser evaluate`: ranking metrics of a checkpoint, or the paired comparison of two.

use crate::cli::{Evaluate, Format, cores};
use crate::failure::Usage;
use crate::{model_folder, output, start, table};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use riser::measurement::{Comparison, Ranking, Summary, compare};
use riser::ranking::{self, Search};
use riser_core::config::{RunConfig, SearchMethod};
use riser_core::data_folder::{DataFolder, PromptRow};
use riser_policy::parameters::Parameters;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::Path;

/// Name of the results inside a run folder.
const FILE: &str = "evaluation.json";

/// Measures and prints.
pub(crate) fn run(arguments: &Evaluate, format: Format) -> anyhow::Result<()> {
    let config = resolve(arguments)?;
    let data = start::data(config.data_path()?)?;
    let load = |path: &Path| start::fitting(model_folder::load(path)?, &data, path);
    let (checkpoint, against) = (load(&arguments.checkpoint)?, arguments.against.as_deref().map(load).transpose()?);
    let evaluation = Evaluation::new(&config, &data)?;

    let after = evaluation.rank(&checkpoint)?;
    let summary = evaluation.summary(&after)?;
    let comparison = match (&against, &arguments.against) {
        (Some(parameters), Some(path)) => {
            let before = evaluation.rank(parameters)?;
            Some(evaluation.compare((&name(path), &before), (&name(&arguments.checkpoint), &after))?)
        }
        _ => None,
    };
    let result = serde_json::json!({
        "checkpoint": arguments.checkpoint,
        "policy": checkpoint.digest()?,
        "data": data.digest(),
        "evaluate": config.evaluate,
        "summary": summary,
        "comparison": comparison,
    });
    if arguments.checkpoint.join("run.json").exists() {
        let path = arguments.checkpoint.join(FILE);
        std::fs::write(&path, format!("{result:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match format {
        Format::Json => output::json(&result),
        Format::Text => {
            let figures = match &comparison {
                Some(comparison) => comparison_table(comparison),
                None => summary_table(&summary),
            };
            output::data(format!("{figures}\n{}; {} invalid items\n", evaluation.caption(), summary.invalid_items))
        }
    }
}

fn resolve(arguments: &Evaluate) -> anyhow::Result<RunConfig> {
    let mut config = arguments.settings.resolve_for(&arguments.checkpoint)?;
    if let Some(path) = &arguments.data {
        config.data.path = Some(path.clone());
    }
    if arguments.full {
        config.evaluate.method = SearchMethod::Full;
    }
    if let Some(beams) = arguments.beam {
        config.evaluate.method = SearchMethod::Beam;
        config.evaluate.beam_width = beams;
        config.evaluate.top_k = config.evaluate.top_k.min(beams);
    }
    config.check()?;
    Ok(config)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// How policies are measured on a data folder.
pub(super) struct Evaluation<'a> {
    config: &'a RunConfig,
    data: &'a DataFolder,
    rows: Vec<PromptRow>,
    search: Search,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(config: &'a RunConfig, data: &'a DataFolder) -> anyhow::Result<Self> {
        let rows = ranking::rows(data, config.evaluate.split, config.evaluate.rows);
        if rows.is_empty() {
            let split = serde_json::to_value(config.evaluate.split)?;
            return Err(Usage(format!("the data in {} has no rows in split {split}", data.path().display())).into());
        }
        let threads = NonZeroUsize::new(cores()).unwrap_or(NonZeroUsize::MIN);
        let search = Search::of(&config.evaluate, config.model.max_prompt_tokens, threads);
        Ok(Self { config, data, rows, search })
    }

    /// Ranks items for every row.
    pub(super) fn rank(&self, parameters: &Parameters) -> anyhow::Result<Ranking> {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix:<9} {wide_bar} {pos}/{len}  eta {eta}");
            ProgressBar::new(self.rows.len() as u64)
                .with_style(style.expect("the template is valid"))
                .with_prefix("evaluate")
        });
        let progress = |done: usize| bar.iter().for_each(|bar| bar.set_position(done as u64));
        let inference = parameters.inference()?;
        let ranking = ranking::rank(&inference, self.data, &self.rows, self.search, &progress);
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        Ok(ranking?)
    }

    pub(super) fn summary(&self, ranking: &Ranking) -> anyhow::Result<Summary> {
        Ok(ranking.summary(self.search.top_k, self.data.dataset().items().len(), self.config.seed)?)
    }

    pub(super) fn compare(&self, before: (&str, &Ranking), after: (&str, &Ranking)) -> anyhow::Result<Comparison> {
        Ok(compare(before, after, self.caption(), self.search.top_k, self.config.seed)?)
    }

    /// What was measured, in a sentence.
    pub(super) fn caption(&self) -> String {
        let method = match self.search.method {
            SearchMethod::Exact => "exact search".to_owned(),
            SearchMethod::Beam => format!("{} beams", self.search.beam_width),
            SearchMethod::Full => "the probability of every item".to_owned(),
        };
        format!("{} rows, {method} in {} space, bootstrap over users", self.rows.len(), self.search.space)
    }
}

fn summary_table(summary: &Summary) -> String {
    let new_target = |metric: &str| {
        let found = summary.metrics_with_new_target.iter().find(|figure| figure.metric == metric);
        found.map_or_else(|| "-".to_owned(), |figure| format!("{:.4}", figure.interval.estimate))
    };
    let rows: Vec<Vec<String>> = summary
        .metrics
        .iter()
        .map(|figure| {
            let interval = figure.interval;
            vec![
                figure.metric.clone(),
                format!("{:.4}", interval.estimate),
                format!("{:.4} .. {:.4}", interval.low, interval.high),
                new_target(&figure.metric),
            ]
        })
        .collect();
    format!(
        "{}\n{} of {} rows have a target that is not in the history; lists of 10 show {:.1}% of the catalog\n",
        table::render(&["metric", "value", "95% interval", "new targets"], &rows),
        summary.rows_with_new_target,
        summary.rows,
        100.0 * summary.coverage_at_10
    )
}

/// Two policies side by side.
pub(super) fn comparison_table(comparison: &Comparison) -> String {
    let (header, rows) = comparison.cells();
    table::render(&header, &rows)
}
