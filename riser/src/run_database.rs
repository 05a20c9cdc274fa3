//! The event log of a run as an SQLite file in the run folder, so that anyone can query a run with ordinary tools.
//!
//! Rows are only added. A transaction holds what had arrived when it was begun. The file is in write-ahead mode with
//! `synchronous = NORMAL`: a process that is killed loses nothing that it committed, a machine that loses power may lose the
//! last transactions, and the file is whole in both cases. The numbers of incarnations are the exception: they are on disk
//! before the role starts, because fencing rests on them.

use riser_core::{
    digest::Digest,
    ids::Incarnation,
    pacing::Pacing,
    run_event::{ArrivalRecord, LeaseRecord, RunEvent, StepRecord},
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// Name of the file in a run folder.
pub const FILE: &str = "run.db";

/// Layout of the file; kept in `user_version`.
const FORMAT: i64 = 1;

const SCHEMA: &str = include_str!("run_database/schema.sql");

/// Tables whose rows are events.
const EVENT_TABLES: [&str; 8] =
    ["sessions", "leases", "groups", "versions", "batches", "checkpoints", "evaluations", "metrics"];

/// How long another process may keep the file locked.
const BUSY: Duration = Duration::from_secs(10);

/// What a run is, as far as its invariants need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunFacts {
    /// Scheduling mode and its numbers.
    pub pacing: Pacing,
    /// Batches of the whole run.
    pub total_batches: u64,
}

/// A role that has incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The coordinator.
    Coordinator,
    /// The learner.
    Learner,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Learner => "learner",
        }
    }
}

/// Why the event log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDatabaseError {
    /// SQLite failed.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// Written by another release.
    #[error("{} has format {got}, this release reads {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        got: i64,
    },
    /// There is none.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A fact of the run is not there or not a value.
    #[error("{}: `{key}` in table `run` is {value:?}", path.display())]
    Fact {
        /// The file.
        path: PathBuf,
        /// Its key.
        key: String,
        /// What is there.
        value: Option<String>,
    },
}

impl RunDatabaseError {
    /// Whether there was no room for what was to be written.
    pub fn is_full(&self) -> bool {
        let Self::Sqlite { source: rusqlite::Error::SqliteFailure(failure, _), .. } = self else { return false };
        // The second: no room for the index that its write-ahead log is read by.
        failure.code == ErrorCode::DiskFull || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    }
}

/// An open event log.
#[derive(Debug)]
pub struct RunDatabase {
    connection: Connection,
    path: PathBuf,
    next_id: i64,
}

impl RunDatabase {
    /// Opens the log at `path` for writing, or begins one.
    ///
    /// # Errors
    /// [`RunDatabaseError`].
    pub fn open(path: &Path, facts: &RunFacts) -> Result<Self, RunDatabaseError> {
        let failed = |source| RunDatabaseError::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if format != 0 && format != FORMAT {
            return Err(RunDatabaseError::Format { path: path.to_owned(), got: format });
        }
        let prepare = || {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.execute_batch(SCHEMA)?;
            connection.pragma_update(None, "user_version", FORMAT)?;
            let mut next_id = 1;
            for table in EVENT_TABLES {
                let last: Option<i64> =
                    connection.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0))?;
                next_id = next_id.max(last.unwrap_or(0) + 1);
            }
            for (key, value) in facts.rows() {
                connection.execute("INSERT OR REPLACE INTO run (key, value) VALUES (?, ?)", [key, &value])?;
            }
            Ok(next_id)
        };
        let next_id = prepare().map_err(failed)?;
        Ok(Self { connection, path: path.to_owned(), next_id })
    }

    /// Opens the log at `path` for reading.
    ///
    /// # Errors
    /// [`RunDatabaseError`], also if there is no such file.
    pub fn existing(path: &Path) -> Result<(Connection, RunFacts), RunDatabaseError> {
        if !path.exists() {
            return Err(RunDatabaseError::Missing { path: path.to_owned() });
        }
        let failed = |source| RunDatabaseError::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if format != FORMAT {
            return Err(RunDatabaseError::Format { path: path.to_owned(), got: format });
        }
        let fact = |key: &str| {
            let value = connection
                .query_row("SELECT value FROM run WHERE key = ?", [key], |row| row.get::<_, String>(0))
                .optional()
                .map_err(failed)?;
            let parsed = value.as_deref().and_then(|value| serde_json::from_str::<serde_json::Value>(value).ok());
            parsed.ok_or_else(|| RunDatabaseError::Fact { path: path.to_owned(), key: key.to_owned(), value })
        };
        let (pacing, total) = (fact("pacing")?, fact("total_batches")?);
        let wrong = |key: &str, value: &serde_json::Value| RunDatabaseError::Fact {
            path: path.to_owned(),
            key: key.to_owned(),
            value: Some(value.to_string()),
        };
        let facts = RunFacts {
            pacing: serde_json::from_value(pacing.clone()).map_err(|_| wrong("pacing", &pacing))?,
            total_batches: total.as_u64().ok_or_else(|| wrong("total_batches", &total))?,
        };
        Ok((connection, facts))
    }

    /// A number for a new start of `role`, higher than all before it and on disk when this returns.
    ///
    /// # Errors
    /// [`RunDatabaseError`].
    pub fn new_incarnation(&mut self, role: Role) -> Result<Incarnation, RunDatabaseError> {
        let reserve = || {
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            let number: u32 = self.connection.query_row(
                "INSERT INTO incarnations (role, incarnation)
                 SELECT ?1, coalesce(max(incarnation), 0) + 1 FROM incarnations WHERE role = ?1 RETURNING incarnation",
                [role.name()],
                |row| row.get(0),
            )?;
            self.connection.pragma_update(None, "synchronous", "NORMAL")?;
            Ok(Incarnation(number))
        };
        reserve().map_err(|source| RunDatabaseError::Sqlite { path: self.path.clone(), source })
    }

    /// Whether a coordinator has heard that every batch is trained.
    ///
    /// # Errors
    /// [`RunDatabaseError`].
    pub fn is_over(&self) -> Result<bool, RunDatabaseError> {
        let query = "SELECT EXISTS (SELECT 1 FROM sessions WHERE role = ?1 AND event = 'ended' AND finished)";
        let is_over = self.connection.query_row(query, [Role::Coordinator.name()], |row| row.get(0));
        is_over.map_err(|source| RunDatabaseError::Sqlite { path: self.path.clone(), source })
    }

    /// Makes sure that new starts of `role` get higher numbers than `known`, which was given out by another database.
    ///
    /// # Errors
    /// [`RunDatabaseError`].
    pub fn go_beyond(&mut self, role: Role, known: Incarnation) -> Result<(), RunDatabaseError> {
        let taken = "INSERT OR IGNORE INTO incarnations (role, incarnation) VALUES (?, ?)";
        let written = self.connection.execute(taken, params![role.name(), known.0]);
        written.map(drop).map_err(|source| RunDatabaseError::Sqlite { path: self.path.clone(), source })
    }

    /// Writes down, for good, that leases of this run are in the log of a coordinator elsewhere.
    ///
    /// # Errors
    /// [`RunDatabaseError`].
    pub fn coordinated_elsewhere(&mut self) -> Result<(), RunDatabaseError> {
        let fact = "INSERT OR REPLACE INTO run (key, value) VALUES ('coordinator', '\"elsewhere\"')";
        let written = self.connection.execute(fact, []);
        written.map(drop).map_err(|source| RunDatabaseError::Sqlite { path: self.path.clone(), source })
    }

    /// Adds events in one transaction; `at` is in seconds since 1970.
    ///
    /// # Errors
    /// [`RunDatabaseError`]; none of the events is added then.
    pub fn append(&mut self, at: f64, events: &[RunEvent]) -> Result<(), RunDatabaseError> {
        let mut write = || {
            let transaction = self.connection.transaction()?;
            let mut rows = Rows { transaction: &transaction, at, next_id: self.next_id };
            events.iter().try_for_each(|event| rows.add(event))?;
            let next_id = rows.next_id;
            transaction.commit()?;
            self.next_id = next_id;
            Ok(())
        };
        write().map_err(|source| RunDatabaseError::Sqlite { path: self.path.clone(), source })
    }
}

impl RunFacts {
    fn rows(&self) -> [(&'static str, String); 2] {
        let pacing = serde_json::to_string(&self.pacing).expect("a pacing is a map of plain values");
        [("pacing", pacing), ("total_batches", self.total_batches.to_string())]
    }
}

/// SQLite's integers are signed; what a peer claims beyond them keeps its bits.
fn int(value: u64) -> i64 {
    value.cast_signed()
}

fn text(digest: Digest) -> String {
    digest.to_string()
}

/// The rows of one transaction.
struct Rows<'a> {
    transaction: &'a Transaction<'a>,
    at: f64,
    next_id: i64,
}

impl Rows<'_> {
    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn add(&mut self, event: &RunEvent) -> rusqlite::Result<()> {
        match event {
            RunEvent::CoordinatorStarted { coordinator } => {
                self.session(Role::Coordinator, *coordinator, "started", None, None, None)
            }
            RunEvent::RunOver { coordinator } => {
                self.session(Role::Coordinator, *coordinator, "ended", None, None, Some(true))
            }
            RunEvent::LearnerStarted { learner, version, digest, catalog } => {
                let digests = Some((text(*digest), text(*catalog)));
                self.session(Role::Learner, *learner, "started", Some(version.0), digests, None)
            }
            RunEvent::LearnerEnded { learner, version, finished } => {
                self.session(Role::Learner, *learner, "ended", Some(version.0), None, Some(*finished))
            }
            RunEvent::Lease(record) => self.lease(record),
            RunEvent::Arrival(record) => self.arrival(record),
            RunEvent::Step(record) => self.step(record),
            RunEvent::Checkpoint { learner, version, folder } => {
                let row = params![self.id(), self.at, learner.0, int(version.0), folder.to_string_lossy()];
                self.insert("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)", row)
            }
            RunEvent::Evaluation { learner, version, metrics, seconds } => {
                self.values("evaluations", *learner, version.0, metrics)?;
                let seconds = BTreeMap::from([("seconds".to_owned(), *seconds)]);
                self.values("evaluations", *learner, version.0, &seconds)
            }
        }
    }

    fn insert(&self, sql: &str, row: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<()> {
        self.transaction.prepare_cached(sql)?.execute(row).map(drop)
    }

    fn session(
        &mut self,
        role: Role,
        incarnation: Incarnation,
        event: &str,
        version: Option<u64>,
        digests: Option<(String, String)>,
        finished: Option<bool>,
    ) -> rusqlite::Result<()> {
        let (digest, catalog) = digests.unzip();
        let version = version.map(int);
        let row = params![self.id(), self.at, role.name(), incarnation.0, event, version, digest, catalog, finished];
        self.insert("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    }

    fn lease(&mut self, record: &LeaseRecord) -> rusqlite::Result<()> {
        let LeaseRecord { coordinator, lease, epoch, worker, version, groups, change } = record;
        let row = params![
            self.id(),
            self.at,
            coordinator.0,
            int(lease.0),
            int(epoch.0),
            int(worker.0),
            int(version.0),
            int(groups.start),
            int(groups.end),
            change.name()
        ];
        self.insert("INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    }

    fn arrival(&mut self, record: &ArrivalRecord) -> rusqlite::Result<()> {
        let ArrivalRecord { learner, group, version, origin, bytes, fate } = record;
        let row = params![
            self.id(),
            self.at,
            learner.0,
            int(group.0),
            int(version.0),
            int(origin.worker.0),
            int(origin.lease.0),
            int(origin.epoch.0),
            int(*bytes),
            fate.name(),
            fate.reason()
        ];
        self.insert("INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    }

    fn step(&mut self, record: &StepRecord) -> rusqlite::Result<()> {
        let StepRecord { learner, version, digest, groups, wait_seconds, learn_seconds, metrics } = record;
        let row = params![self.id(), self.at, learner.0, int(version.0), text(*digest), wait_seconds, learn_seconds];
        self.insert("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", row)?;
        for (group, group_version, catalog) in groups {
            let (group, group_version) = (int(group.0), int(group_version.0));
            let row = params![self.id(), learner.0, int(version.0), group, group_version, text(*catalog)];
            self.insert("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", row)?;
        }
        self.values("metrics", *learner, version.0, metrics)
    }

    /// A value that is not a number is kept as null.
    fn values(
        &mut self,
        table: &str,
        learner: Incarnation,
        version: u64,
        values: &BTreeMap<String, f64>,
    ) -> rusqlite::Result<()> {
        let sql = format!("INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)");
        for (name, value) in values {
            let row = params![self.id(), self.at, learner.0, int(version), name, value];
            self.insert(&sql, row)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
