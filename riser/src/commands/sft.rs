//! `riser sft`: the supervised stage.

use crate::cli::{Format, Stage};
use crate::failure::Usage;
use crate::run_folder::RunFolder;
use crate::{interrupt, model_folder, report, start, supervised};

/// Runs or resumes the stage and prints where its model lies.
pub(crate) fn run(arguments: &Stage, format: Format) -> anyhow::Result<()> {
    let config = arguments.settings.resolve()?;
    let data = start::data(config.data_path()?)?;
    if data.dataset().rows(riser_core::dataset::Split::Train).is_empty() {
        return Err(Usage(format!("the data in {} has no training rows", data.path().display())).into());
    }
    let run = RunFolder::open(&arguments.out, "sft", &config, data.digest(), None)?;
    let ended = supervised::run(&config, &data, &run, &interrupt::token()?)?;
    let page = report::write(run.path())?;
    super::print_stage(format, ended.is_some(), &run.path().join(model_folder::NAME), &page, None)
}
