//! `riser quickstart`: the whole method on a generated catalog.

use super::evaluate::{Evaluation, comparison_table};
use super::prepare;
use crate::cli::{Format, Quickstart, cores};
use crate::clock::Stopwatch;
use crate::run_folder::RunFolder;
use crate::{interrupt, output, reinforcement, report, supervised};
use anyhow::Context;
use riser::measurement::{Comparison, Summary};
use riser_core::config::{RunConfig, Sources};
use riser_core::data_folder::DataFolder;
use riser_core::dataset::split::SplitOptions;
use riser_core::prepare::{PrepareOptions, Source};
use riser_core::random::Seed;
use riser_core::synthetic::WorldOptions;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the command prints as JSON.
#[derive(Debug, Serialize)]
struct Outcome {
    sft: Summary,
    riser: Summary,
    comparison: Comparison,
    /// Of both evaluations together.
    invalid_items: u64,
    /// Digest of the last policy.
    policy: riser_core::digest::Digest,
    seconds: Seconds,
    report: PathBuf,
}

/// Wall time of each stage; resumed stages count what was left of them.
#[derive(Debug, Serialize)]
struct Seconds {
    prepare: f64,
    sft: f64,
    train: f64,
    evaluate: f64,
}

/// Runs all stages and prints a table before and after.
pub(crate) fn run(arguments: &Quickstart, format: Format) -> anyhow::Result<()> {
    let out = &arguments.out;
    let config = config(arguments)?;
    let stop = interrupt::token()?;

    let watch = Stopwatch::start();
    let data = Arc::new(data(out, config.seed)?);
    let prepare = watch.seconds();

    let watch = Stopwatch::start();
    let sft_run = RunFolder::open(&out.join("sft"), "sft", &config, data.digest(), None)?;
    let Some(supervised) = supervised::run(&config, &data, &sft_run, &stop)? else {
        return Err(super::interrupted());
    };
    let sft = watch.seconds();

    let watch = Stopwatch::start();
    let rl_run = RunFolder::open(&out.join("rl"), "train", &config, data.digest(), Some(supervised.digest()?))?;
    let Some(reinforced) = reinforcement::run(&config, &data, &supervised, &rl_run, &stop)? else {
        return Err(super::interrupted());
    };
    let train = watch.seconds();

    let watch = Stopwatch::start();
    let evaluation = Evaluation::new(&config, &data)?;
    let (before, after) = (evaluation.rank(&supervised)?, evaluation.rank(&reinforced.parameters)?);
    let comparison = evaluation.compare(("SFT", &before), ("RISER", &after))?;
    let (before, after) = (evaluation.summary(&before)?, evaluation.summary(&after)?);
    let evaluate = watch.seconds();

    write_comparison(out, &comparison)?;
    let outcome = Outcome {
        invalid_items: before.invalid_items + after.invalid_items,
        sft: before,
        riser: after,
        comparison,
        policy: reinforced.digest,
        seconds: Seconds { prepare, sft, train, evaluate },
        report: report::write(out)?,
    };
    match format {
        Format::Json => output::json(&outcome),
        Format::Text => output::data(text(&outcome, &data, out)),
    }
}

fn config(arguments: &Quickstart) -> anyhow::Result<RunConfig> {
    let mut flags = vec![
        format!("seed={}", arguments.seed),
        format!("data.path={}", toml::Value::from(arguments.out.join("data").display().to_string())),
        format!("train.init={}", toml::Value::from(arguments.out.join("sft").display().to_string())),
    ];
    flags.extend(arguments.flags.iter().cloned());
    let built_in = Some(include_str!("../quickstart.toml").to_owned());
    Ok(RunConfig::resolve(&Sources { built_in, flags, ..Sources::default() }, cores())?)
}

/// The generated data; what an earlier quickstart of the same seed prepared is used again.
fn data(out: &Path, seed: Seed) -> anyhow::Result<DataFolder> {
    // A young shop: the supervised stage has the first weeks of the log, and as it learns nothing more from them, the
    // reinforcement stage goes on with prompts from the time after. With many more rows to begin with, what it adds is within noise.
    let split = SplitOptions { train_share: 0.06, valid_share: 0.84, ..SplitOptions::default() };
    let world = WorldOptions { users: 5000, split, ..WorldOptions::default() };
    let options = PrepareOptions { seed, ..PrepareOptions::new(Source::Synthetic(world)) };
    let folder = out.join("data");
    match DataFolder::open(&folder) {
        Ok(data) if data.manifest().options == serde_json::to_value(&options)? => Ok(data),
        _ => prepare::folder(&options, &folder),
    }
}

fn write_comparison(out: &Path, comparison: &Comparison) -> anyhow::Result<()> {
    let path = out.join(Comparison::FILE);
    let text = serde_json::to_string_pretty(comparison)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn text(outcome: &Outcome, data: &DataFolder, out: &Path) -> String {
    let Seconds { prepare, sft, train, evaluate } = outcome.seconds;
    let example = data.dataset().items().first().map_or("TITLE", |item| item.title.as_str());
    format!(
        "{}\n{}; {} invalid items\n\
         prepare {prepare:.0} s, supervised {sft:.0} s, reinforcement {train:.0} s, evaluation {evaluate:.0} s\n\n\
         curves  {}\n\
         try     riser recommend {} {example:?}\n",
        comparison_table(&outcome.comparison),
        outcome.comparison.caption,
        outcome.invalid_items,
        outcome.report.display(),
        out.join("rl").display(),
    )
}
