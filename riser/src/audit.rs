//! Proving a run's invariants again from its own event log.
//!
//! Every invariant is one or more questions to the log (`checks`) whose answers are the rows that break it; a run is clean
//! when no question has an answer. The account (`account`) says what became of every group that was ever leased.
//!
//! What is called *the run* is its lineage: a learner that was started again has gone back to a checkpoint, and the
//! versions that its predecessor trained beyond it are no part of the run. In lockstep they must have been the same.

mod account;
mod checks;
pub mod joint;

pub use account::Account;

use crate::run_database::{RunDatabase, RunDatabaseError, RunFacts};
use checks::{Check, Reads};
use rusqlite::{Connection, named_params};
use serde::Serialize;
use std::{fmt, path::Path};

/// Rows shown of one check; a run that breaks an invariant a million times has said it after these.
const SHOWN: usize = 20;

/// The result of an audit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audit {
    /// Whether every invariant holds.
    pub clean: bool,
    /// Scheduling mode of the run.
    pub schedule: &'static str,
    /// Bound on the staleness of a group when it is trained on.
    pub max_staleness: u32,
    /// Invariants that were checked, each once.
    pub checked: Vec<&'static str>,
    /// What broke them.
    pub violations: Vec<Violation>,
    /// What cannot be known, because the end of a log may be missing; only of two logs.
    pub unknown: Vec<Unknown>,
    /// Newest version of the run.
    pub version: u64,
    /// What became of the leased groups; `None` where leases and groups are in different logs.
    pub account: Option<Account>,
}

/// A row that breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// Whose log the row is in, of two logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<&'static str>,
    /// Table of the row.
    pub table: &'static str,
    /// Its `id`: the number of the event.
    pub event: i64,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, log, table, event, message } = self;
        let whose = log.map(|log| format!(" of the {log}")).unwrap_or_default();
        write!(formatter, "{invariant}: event {event}{whose} ({table}): {message}")
    }
}

/// Rows that would break an invariant if both logs were complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// The invariant.
    pub invariant: &'static str,
    /// How many such rows there are.
    pub events: u64,
    /// Whose log they are in.
    pub log: &'static str,
    /// Their table.
    pub table: &'static str,
    /// The `id` of the first.
    pub event: i64,
    /// What would be wrong with the first.
    pub message: String,
    /// What may be missing.
    pub why: &'static str,
}

impl fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, events, log, table, event, message, why } = self;
        write!(formatter, "{invariant}: {events} events of the {log}, first {event} ({table}): {message}; {why}")
    }
}

/// Audits the log at `path`.
///
/// # Errors
/// [`RunDatabaseError`] if there is no log, or it cannot be read.
pub fn audit(path: &Path) -> Result<Audit, RunDatabaseError> {
    let (connection, facts) = RunDatabase::existing(path)?;
    let result = examine(&connection, &facts);
    result.map_err(|source| RunDatabaseError::Sqlite { path: path.to_owned(), source })
}

fn examine(connection: &Connection, facts: &RunFacts) -> rusqlite::Result<Audit> {
    let is_there = |rows: &str| connection.query_row(&format!("SELECT EXISTS ({rows})"), [], |row| row.get(0));
    let has_coordinator: bool = is_there("SELECT 1 FROM sessions WHERE role = 'coordinator'")?;
    let has_learner: bool = is_there("SELECT 1 FROM sessions WHERE role = 'learner'")?;
    // A run may have gone on with a coordinator elsewhere after it was begun with one that is here.
    let has_both = has_coordinator && has_learner && !is_there("SELECT 1 FROM run WHERE key = 'coordinator'")?;
    let has_other_learners = is_there("SELECT 1 FROM run WHERE key = 'learner'")?;
    let (mut checked, mut violations) = (vec![], vec![]);
    let in_lockstep = facts.pacing.name() == "lockstep";
    for check in checks::ALL {
        let has_events = match check.reads {
            Reads::Learner => has_learner,
            Reads::Coordinator => has_coordinator,
            Reads::Both => has_both,
        };
        // A bounded run promises no particular versions, and of what a learner elsewhere did nothing is here.
        let is_foreign = check.one_learner && has_other_learners;
        if !has_events || is_foreign || (check.lockstep_only && !in_lockstep) {
            continue;
        }
        if !checked.contains(&check.invariant) {
            checked.push(check.invariant);
        }
        violations.extend(ask(connection, facts, check)?);
    }
    let account = has_both.then(|| account::settle(connection)).transpose()?;
    violations.extend(account.iter().flat_map(Account::violations));
    let version: Option<i64> = connection.query_row("SELECT max(version) FROM lineage", [], |row| row.get(0))?;
    Ok(Audit {
        clean: violations.is_empty(),
        schedule: facts.pacing.name(),
        max_staleness: facts.pacing.max_staleness(),
        checked,
        violations,
        unknown: vec![],
        version: version.unwrap_or(0).cast_unsigned(),
        account,
    })
}

fn ask(connection: &Connection, facts: &RunFacts, check: &Check) -> rusqlite::Result<Vec<Violation>> {
    let mut statement = connection.prepare(check.sql)?;
    // Every question may use the numbers of the run, few use all.
    let all = named_params! {
        ":size": facts.pacing.groups_per_batch().cast_signed(),
        ":bound": facts.pacing.max_staleness(),
        ":total": facts.total_batches.cast_signed(),
    };
    let mut used = vec![];
    for &(name, value) in all {
        if statement.parameter_index(name)?.is_some() {
            used.push((name, value));
        }
    }
    let rows = statement.query_map(used.as_slice(), |row| {
        Ok(Violation {
            invariant: check.invariant,
            log: None,
            table: check.table,
            event: row.get(0)?,
            message: row.get(1)?,
        })
    })?;
    rows.take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
