//! `riser learner`: the training of a run on several hosts.

use crate::cli::{Format, cluster::Learner};
use crate::processes::learner::Seat;
use crate::run_folder::RunFolder;
use crate::{interrupt, model_folder, reinforcement, report, start};
use riser::joining;
use riser_core::ids::PolicyVersion;
use std::cell::Cell;

/// Runs or resumes the learner and prints where its model lies.
pub(crate) fn run(arguments: &Learner, format: Format) -> anyhow::Result<()> {
    let config = arguments.settings.resolve()?;
    let (data, reference) = start::reinforcement(&config)?;
    let start = reference.digest()?;
    // The same folder as of `riser train`: one can go on where the other stopped.
    let run = RunFolder::open(&arguments.out, "train", &config, data.digest(), Some(start))?;
    let seat = Seat::take(&config.cluster, joining::run_digest(&config, data.digest(), start), &run)?;
    let stop = interrupt::token()?;
    let has_trained = Cell::new(false);
    let ended = reinforcement::run_with(&config, &data, &reference, &run, &stop, |settings, parts, stop| {
        has_trained.set(true);
        seat.train(settings, parts, stop)
    })?;
    if ended.is_some() && !has_trained.get() {
        seat.say_goodbye(PolicyVersion(config.train.steps))?;
    }
    let page = report::write(run.path())?;
    let digest = ended.as_ref().map(|finished| finished.digest);
    super::print_stage(format, ended.is_some(), &run.path().join(model_folder::NAME), &page, digest)
}
