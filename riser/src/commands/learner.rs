//! `riser learner`: the training of a run on several hosts.

use crate::cli::{Format, cluster::Learner};
use crate::processes::learner::Seat;
use crate::run_folder::RunFolder;
use crate::{event_log, interrupt, metrics_endpoint, model_folder, reinforcement, report, start};
use riser::joining;
use riser::run_database::{Role, RunFacts};
use riser_core::catalog::plan::CatalogPlan;
use std::cell::Cell;

/// Runs or resumes the learner and prints where its model lies.
pub(crate) fn run(arguments: &Learner, format: Format) -> anyhow::Result<()> {
    let config = arguments.settings.resolve()?;
    let cluster = &config.cluster;
    let token = cluster.metrics_token_file.as_deref();
    metrics_endpoint::open(cluster.learner.metrics, "cluster.learner.metrics", token)?;
    let (data, reference) = start::reinforcement(&config)?;
    let start = reference.digest()?;
    // The same folder as of `riser train`: one can go on where the other stopped.
    let run = RunFolder::open(&arguments.out, "train", &config, data.digest(), Some(start))?;
    let seat = Seat::take(&config.cluster, joining::run_digest(&config, data.digest(), start))?;
    let stop = interrupt::token()?;
    let facts = RunFacts { pacing: reinforcement::pacing(&config)?, total_batches: config.train.steps };
    let mut database = event_log::open(&run, &facts)?;
    if let Some(predecessor) = seat.predecessor()? {
        database.go_beyond(Role::Learner, predecessor)?;
    }
    let has_trained = Cell::new(false);
    let ended = reinforcement::run_with(&config, &data, &reference, &run, &stop, |settings, parts, stop| {
        has_trained.set(true);
        let (seat, written) = (&seat, database.coordinated_elsewhere());
        async move {
            written?;
            seat.train(settings, parts, stop).await
        }
    })?;
    if ended.is_some() && !has_trained.get() {
        let catalogs = CatalogPlan::new(data.tree().digest());
        seat.say_goodbye(database.new_incarnation(Role::Learner)?, &facts, catalogs)?;
    }
    let page = report::write(run.path())?;
    let digest = ended.as_ref().map(|finished| finished.digest);
    super::print_stage(format, ended.is_some(), &run.path().join(model_folder::NAME), &page, digest)
}
