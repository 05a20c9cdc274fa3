//! `riser train`: the reinforcement stage.

use crate::cli::{Format, Stage, Train};
use crate::run_folder::RunFolder;
use crate::{interrupt, metrics_endpoint, model_folder, reinforcement, report, start};
use riser::joining;

/// Runs or resumes the stage and prints where its model lies.
pub(crate) fn run(arguments: &Train, format: Format) -> anyhow::Result<()> {
    let Train { stage: Stage { settings, out }, metrics } = arguments;
    let config = settings.resolve()?;
    metrics_endpoint::open(*metrics, "--metrics", config.cluster.metrics_token_file.as_deref())?;
    let (data, reference) = start::reinforcement(&config)?;
    let start = reference.digest()?;
    let run = RunFolder::open(out, "train", &config, data.digest(), Some(start))?;
    for role in ["coordinator", "learner", "worker"] {
        metrics_endpoint::introduce(role, joining::run_digest(&config, data.digest(), start));
    }
    let ended = reinforcement::run(&config, &data, &reference, &run, &interrupt::token()?)?;
    let page = report::write(run.path())?;
    let digest = ended.as_ref().map(|finished| finished.digest);
    super::print_stage(format, ended.is_some(), &run.path().join(model_folder::NAME), &page, digest)
}
