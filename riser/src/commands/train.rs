//! `riser train`: the reinforcement stage.

use crate::cli::{Format, Stage};
use crate::run_folder::RunFolder;
use crate::{interrupt, model_folder, reinforcement, report, start};

/// Runs or resumes the stage and prints where its model lies.
pub(crate) fn run(arguments: &Stage, format: Format) -> anyhow::Result<()> {
    let config = arguments.settings.resolve()?;
    let (data, reference) = start::reinforcement(&config)?;
    let run = RunFolder::open(&arguments.out, "train", &config, data.digest(), Some(reference.digest()?))?;
    let ended = reinforcement::run(&config, &data, &reference, &run, &interrupt::token()?)?;
    let page = report::write(run.path())?;
    let digest = ended.as_ref().map(|finished| finished.digest);
    super::print_stage(format, ended.is_some(), &run.path().join(model_folder::NAME), &page, digest)
}
