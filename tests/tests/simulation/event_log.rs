//! Event logs of simulated runs, and what the audit says about them.

use crate::scenario::Scenario;
use riser::{
    audit::{self, Audit},
    room::Room,
    run_database::{FILE, Role, RunDatabase, RunFacts},
    run_log::RunLog,
};
use riser_core::{ids::Incarnation, run_event::RunEvent};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A log in a folder of its own.
pub(crate) struct Logged {
    folder: TempDir,
    facts: RunFacts,
}

/// One start of the learner that writes to it.
pub(crate) struct Session {
    log: RunLog,
    pub(crate) incarnation: Incarnation,
    pub(crate) sender: mpsc::Sender<RunEvent>,
}

impl Logged {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let facts = RunFacts { pacing: scenario.pacing(), total_batches: scenario.total_batches };
        Self { folder: tempfile::tempdir().unwrap(), facts }
    }

    pub(crate) fn session(&self) -> Session {
        let mut database = RunDatabase::open(&self.folder.path().join(FILE), &self.facts).unwrap();
        let incarnation = database.new_incarnation(Role::Learner).unwrap();
        let (log, sender) = RunLog::start(database, || 0.0, Room::new(CancellationToken::new(), |_| {})).unwrap();
        Session { log, incarnation, sender }
    }

    pub(crate) fn audit(&self) -> Audit {
        audit::audit(&self.folder.path().join(FILE)).unwrap()
    }
}

impl Session {
    /// Waits for the writer; connections that were left behind must be gone by then, so their tasks get a turn first.
    pub(crate) async fn finish(self) {
        drop(self.sender);
        tokio::task::spawn_blocking(move || self.log.finish().unwrap()).await.unwrap();
    }
}
