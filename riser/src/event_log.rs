//! The event log of a run on this machine, and which start of a role this is.

use crate::clock;
use crate::run_folder::RunFolder;
use riser::room::Room;
use riser::run_database::{FILE, Role, RunDatabase, RunFacts};
use riser::run_log::RunLog;
use riser_coordinator::schedule::ScheduleConfig;
use riser_core::ids::Incarnation;
use riser_core::run_event::RunEvent;
use riser_learner::LearnerConfig;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Opens the log of `run`, gives the learner its incarnation and a way to the log, and starts the writer. A log that fails
/// stops the run; one that has no room is waited for, as the learner's troubles say.
pub(crate) fn start(run: &RunFolder, learner: &mut LearnerConfig, stop: &CancellationToken) -> anyhow::Result<RunLog> {
    let facts = RunFacts { pacing: learner.pacing, total_batches: learner.total_batches };
    let (log, sender, incarnation) = begin(run, &facts, Role::Learner, learner_room(learner, stop))?;
    (learner.incarnation, learner.log) = (incarnation, Some(sender));
    learner.logs.push(log.written());
    Ok(log)
}

/// How the logs of a learner wait for room.
pub(crate) fn learner_room(learner: &LearnerConfig, stop: &CancellationToken) -> Room {
    let activity = learner.activity.clone();
    Room::new(stop.clone(), move |what| activity.trouble("learner", what))
}

/// The same for a coordinator in a process of its own, whose way to the log is the second value; the third is whether one
/// before it has heard that the run is over.
pub(crate) fn start_coordinator(
    run: &RunFolder,
    schedule: &mut ScheduleConfig,
    stop: &CancellationToken,
) -> anyhow::Result<(RunLog, mpsc::Sender<RunEvent>, bool)> {
    let facts = RunFacts { pacing: schedule.pacing, total_batches: schedule.total_batches };
    let is_over = open(run, &facts)?.is_over()?;
    let (log, sender, incarnation) = begin(run, &facts, Role::Coordinator, Room::new(stop.clone(), |_| {}))?;
    schedule.incarnation = incarnation;
    Ok((log, sender, is_over))
}

/// Opens the database of `run` for whoever has something to say that is no event.
pub(crate) fn open(run: &RunFolder, facts: &RunFacts) -> anyhow::Result<RunDatabase> {
    Ok(RunDatabase::open(&run.path().join(FILE), facts)?)
}

fn begin(
    run: &RunFolder,
    facts: &RunFacts,
    role: Role,
    room: Room,
) -> anyhow::Result<(RunLog, mpsc::Sender<RunEvent>, Incarnation)> {
    let mut database = open(run, facts)?;
    let incarnation = database.new_incarnation(role)?;
    let (log, sender) = RunLog::start(database, clock::seconds_since_1970, room)?;
    Ok((log, sender, incarnation))
}
