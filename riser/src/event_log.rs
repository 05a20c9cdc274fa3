//! The event log of a run on this machine, and which start of a role this is.

use crate::clock;
use crate::run_folder::RunFolder;
use riser::room::Room;
use riser::run_database::{FILE, Role, RunDatabase, RunDatabaseError, RunFacts};
use riser::run_log::RunLog;
use riser_coordinator::reception::{Memory, MemoryError, Remembering};
use riser_coordinator::schedule::ScheduleConfig;
use riser_core::ids::Incarnation;
use riser_core::run_event::RunEvent;
use riser_learner::LearnerConfig;
use riser_proto::offload::offload;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Between two attempts to write down that the run is over.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens the log of `run`, gives the learner its incarnation and a way to the log, and starts the writer. A log that fails
/// stops the run; one that has no room is waited for, as the learner's troubles say.
pub(crate) fn start(run: &RunFolder, learner: &mut LearnerConfig, stop: &CancellationToken) -> anyhow::Result<RunLog> {
    let facts = RunFacts { pacing: learner.pacing, total_batches: learner.total_batches };
    let (log, sender, incarnation) = begin(run, &facts, Role::Learner, learner_room(learner, stop))?;
    (learner.incarnation, learner.log) = (incarnation, Some(sender));
    learner.logs.push(log.written());
    // The standard library keys each of these at random.
    learner.start = RandomState::new().build_hasher().finish();
    Ok(log)
}

/// How the logs of a learner wait for room.
pub(crate) fn learner_room(learner: &LearnerConfig, stop: &CancellationToken) -> Room {
    let activity = learner.activity.clone();
    Room::new(stop.clone(), move |what| activity.trouble("learner", what))
}

/// The same for a coordinator in a process of its own, whose way to the log is the second value.
pub(crate) fn start_coordinator(
    run: &RunFolder,
    schedule: &mut ScheduleConfig,
    stop: &CancellationToken,
) -> anyhow::Result<(RunLog, mpsc::Sender<RunEvent>)> {
    let facts = RunFacts { pacing: schedule.pacing, total_batches: schedule.total_batches };
    let (log, sender, incarnation) = begin(run, &facts, Role::Coordinator, Room::new(stop.clone(), |_| {}))?;
    schedule.incarnation = incarnation;
    Ok((log, sender))
}

/// What a coordinator keeps for the next one, in the database of its run.
#[derive(Debug)]
pub(crate) struct KeptEnd(Arc<Mutex<RunDatabase>>);

impl KeptEnd {
    /// In the database of `run`.
    pub(crate) fn of(run: &RunFolder, schedule: &ScheduleConfig) -> anyhow::Result<Self> {
        let facts = RunFacts { pacing: schedule.pacing, total_batches: schedule.total_batches };
        Ok(Self(Arc::new(Mutex::new(open(run, &facts)?))))
    }
}

impl KeptEnd {
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RunDatabase) -> Result<T, RunDatabaseError> + Send + 'static,
    ) -> Remembering<'_, T> {
        let database = self.0.clone();
        let work = move || work(&mut database.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move { Ok(offload(work).await??) })
    }
}

impl Memory for KeptEnd {
    fn keep_end(&self) -> Remembering<'_, ()> {
        Box::pin(async move {
            loop {
                match self.with(RunDatabase::keep_end).await {
                    Err(error) if lacks_room(&error) => {
                        tracing::warn!(%error, "no room to write down that the run is over; it waits");
                        tokio::time::sleep(PAUSE).await;
                    }
                    kept => return kept,
                }
            }
        })
    }

    fn is_over(&self) -> Remembering<'_, bool> {
        Box::pin(async move {
            match self.with(|database| database.is_over()).await {
                // Looked at again before long.
                Err(error) if lacks_room(&error) => Ok(false),
                known => known,
            }
        })
    }
}

fn lacks_room(error: &MemoryError) -> bool {
    error.downcast_ref().is_some_and(RunDatabaseError::is_full)
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
