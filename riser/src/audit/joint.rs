//! One audit over the logs of a coordinator and a learner that are processes of their own.
//!
//! Each log is audited by itself, and then both together (`checks`). Nothing is made of the times in the two logs, which two clocks
//! have written, nor of the order of events across them; what is used is that a cause is written down before its
//! consequence can be: a lease is in the coordinator's log before its worker hears of it, a group in the learner's before
//! the worker hears that it has arrived.
//!
//! The end of a log may be missing: what a role had not yet written when it was killed, and what its machine had not yet
//! put on disk when it lost power. So for every start of a role (`ends.sql`) it is found out whether it ended in good order, and if
//! not, how far its log surely reaches: everything before an event that is there is there. A row whose counterpart may have
//! been in such an end is no violation, but unknown, and said to be.

mod checks;

use super::{Audit, SHOWN, Unknown, Violation, account, examine};
use crate::run_database::{RunDatabase, RunDatabaseError, RunFacts};
use checks::CrossCheck;
use riser_core::digest::Digest;
use rusqlite::{Connection, named_params};
use std::path::{Path, PathBuf};

pub(super) const SAME_RUN: &str = "both logs are of one run";

/// The log of one role and the run that its folder says it is of.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    /// The log.
    pub path: &'a Path,
    /// The run.
    pub run: Digest,
}

/// Why two logs cannot be audited together.
#[derive(Debug, thiserror::Error)]
pub enum JointError {
    /// One of them cannot be read.
    #[error(transparent)]
    Database(#[from] RunDatabaseError),
    /// A log of another role.
    #[error("{} is no log of a {role}", path.display())]
    Role {
        /// The log.
        path: PathBuf,
        /// Whose it should be.
        role: &'static str,
    },
    /// A learner that was part of one process with its coordinator for a while.
    #[error("{} has leases of its own, from a time when coordinator and learner were one process", path.display())]
    OwnLeases {
        /// The learner's log.
        path: PathBuf,
    },
}

/// Audits the logs of a coordinator and a learner, each by itself and both together.
///
/// # Errors
/// [`JointError`].
pub fn audit_both(coordinator: Log<'_>, learner: Log<'_>) -> Result<Audit, JointError> {
    let (connection, [facts, other]) = RunDatabase::existing_pair(coordinator.path, learner.path)?;
    let is_there = |rows: &str| connection.query_row(&format!("SELECT EXISTS ({rows})"), [], |row| row.get(0));
    let failed = |path: &Path, source| RunDatabaseError::Sqlite { path: path.to_owned(), source };
    for (log, role) in [(coordinator, "coordinator"), (learner, "learner")] {
        let rows = format!("SELECT 1 FROM {role}.sessions WHERE role = '{role}'");
        if !is_there(&rows).map_err(|source| failed(log.path, source))? {
            return Err(JointError::Role { path: log.path.to_owned(), role });
        }
    }
    if is_there("SELECT 1 FROM learner.leases").map_err(|source| failed(learner.path, source))? {
        return Err(JointError::OwnLeases { path: learner.path.to_owned() });
    }
    if coordinator.run != learner.run || facts != other {
        return Ok(of_two_runs(&facts, coordinator.run, learner.run));
    }
    let alone = |log: Log<'_>, name| -> Result<Audit, RunDatabaseError> {
        let (connection, facts) = RunDatabase::existing(log.path)?;
        let mut audit = examine(&connection, &facts).map_err(|source| failed(log.path, source))?;
        audit.violations.iter_mut().for_each(|violation| violation.log = Some(name));
        Ok(audit)
    };
    let (first, second) = (alone(coordinator, "coordinator")?, alone(learner, "learner")?);
    let mut audit = Audit { version: second.version, ..first };
    audit.checked.extend(second.checked);
    audit.violations.extend(second.violations);
    together(&connection, &facts, &mut audit).map_err(|source| failed(learner.path, source))?;
    audit.clean = audit.violations.is_empty();
    Ok(audit)
}

fn of_two_runs(facts: &RunFacts, coordinator: Digest, learner: Digest) -> Audit {
    let message =
        format!("the coordinator's is of run {}, the learner's of run {}", coordinator.short(), learner.short());
    let (invariant, table, log) = (SAME_RUN, "run", Some("learner"));
    Audit {
        clean: false,
        schedule: facts.pacing.name(),
        max_staleness: facts.pacing.max_staleness(),
        checked: vec![SAME_RUN],
        violations: vec![Violation { invariant, log, table, event: 0, message }],
        unknown: vec![],
        version: 0,
        account: None,
    }
}

/// Asks what needs both logs.
fn together(connection: &Connection, facts: &RunFacts, audit: &mut Audit) -> rusqlite::Result<()> {
    // The logs as they are at one moment each, for all questions.
    let reading = connection.unchecked_transaction()?;
    reading.execute_batch(include_str!("joint/ends.sql"))?;
    audit.checked.insert(0, SAME_RUN);
    for check in checks::ALL {
        if !audit.checked.contains(&check.invariant) {
            audit.checked.push(check.invariant);
        }
        let (violations, unknown) = ask(&reading, facts, check)?;
        audit.violations.extend(violations);
        audit.unknown.extend(unknown);
    }
    let account = account::settle_both(&reading)?;
    audit.checked.push(account::INVARIANT);
    audit.violations.extend(account.violations());
    audit.account = Some(account);
    Ok(())
}

/// What breaks an invariant, and what may.
fn ask(
    connection: &Connection,
    facts: &RunFacts,
    check: &CrossCheck,
) -> rusqlite::Result<(Vec<Violation>, Option<Unknown>)> {
    let CrossCheck { invariant, log, table, sql, why } = *check;
    let mut statement = connection.prepare(sql)?;
    let all = named_params! { ":total": facts.total_batches.cast_signed() };
    let has_total = statement.parameter_index(":total")?.is_some();
    let mut rows = statement.query(if has_total { all } else { &[] })?;
    let (mut violations, mut unknown) = (vec![], None::<Unknown>);
    while let Some(row) = rows.next()? {
        let (event, message, is_unknown) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if is_unknown {
            let new = || Unknown { invariant, events: 0, log, table, event, message, why };
            unknown.get_or_insert_with(new).events += 1;
        } else if violations.len() < SHOWN {
            violations.push(Violation { invariant, log: Some(log), table, event, message });
        }
    }
    Ok((violations, unknown))
}

#[cfg(test)]
mod tests;
