//! The event log of a run on this machine.

use crate::clock;
use crate::run_folder::RunFolder;
use riser::run_database::{FILE, Role, RunDatabase, RunFacts};
use riser::run_log::RunLog;
use riser_learner::LearnerConfig;
use tokio_util::sync::CancellationToken;

/// Opens the log of `run`, gives the learner its incarnation and a way to the log, and starts the writer. A log that fails
/// stops the run.
pub(crate) fn start(run: &RunFolder, learner: &mut LearnerConfig, stop: &CancellationToken) -> anyhow::Result<RunLog> {
    let facts = RunFacts { pacing: learner.pacing, total_batches: learner.total_batches };
    let mut database = RunDatabase::open(&run.path().join(FILE), &facts)?;
    learner.incarnation = database.new_incarnation(Role::Learner)?;
    let stop = stop.clone();
    let (log, sender) = RunLog::start(database, clock::seconds_since_1970, move || stop.cancel())?;
    learner.log = Some(sender);
    Ok(log)
}
