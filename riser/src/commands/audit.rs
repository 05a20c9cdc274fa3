//! `riser audit`: the invariants of a run, proved again from its event log, or from those of its coordinator and its learner.

use crate::cli::{self, Format};
use crate::failure::{Hint, Usage};
use crate::output;
use crate::run_folder::RunFolder;
use anyhow::anyhow;
use riser::audit::joint::{self, JointError, Log};
use riser::audit::{self, Account, Audit};
use riser::run_database::{FILE, RunDatabaseError};

/// Prints the audit; a broken invariant is a failure.
pub(crate) fn run(arguments: &cli::Audit, format: Format) -> anyhow::Result<()> {
    let run = RunFolder::existing(&arguments.run)?;
    let audited = match &arguments.learner {
        None => audit::audit(&run.path().join(FILE)).map_err(JointError::from),
        Some(learner) => together(&run, &RunFolder::existing(learner)?)?,
    };
    let audit = match audited {
        Err(JointError::Database(error @ RunDatabaseError::Missing { .. })) => {
            return Err(Usage(format!("no event log: {error}")))
                .hint(|| "`riser train`, `riser coordinator` and `riser learner` write one".to_owned());
        }
        Err(error @ JointError::Role { .. }) => {
            return Err(Usage(error.to_string()))
                .hint(|| "first the coordinator's folder, OUT/coordinator, then the learner's".to_owned());
        }
        Err(error @ JointError::OwnLeases { .. }) => {
            return Err(Usage(error.to_string())).hint(|| "audit each log by itself".to_owned());
        }
        audit => audit?,
    };
    match format {
        Format::Text => output::data(text(&audit))?,
        Format::Json => output::json(&audit)?,
    }
    match audit.violations.len() {
        0 => Ok(()),
        broken => Err(anyhow!("{} breaks its invariants, {broken} events say so", arguments.run.display())),
    }
}

/// The audit of both logs of a run.
fn together(coordinator: &RunFolder, learner: &RunFolder) -> anyhow::Result<Result<Audit, JointError>> {
    let [first, second] = [coordinator, learner].map(|folder| folder.path().join(FILE));
    let coordinator = Log { path: &first, run: coordinator.run_digest()? };
    let learner = Log { path: &second, run: learner.run_digest()? };
    Ok(joint::audit_both(coordinator, learner))
}

fn text(audit: &Audit) -> String {
    let mut lines: Vec<String> = audit.violations.iter().map(ToString::to_string).collect();
    lines.extend(audit.unknown.iter().map(|unknown| format!("unknown  {unknown}")));
    lines.extend(audit.checked.iter().map(|invariant| {
        let holds = audit.violations.iter().all(|violation| violation.invariant != *invariant);
        let is_known = audit.unknown.iter().all(|unknown| unknown.invariant != *invariant);
        let word = match (holds, is_known) {
            (true, true) => "holds  ",
            (true, false) => "unknown",
            (false, _) => "BROKEN ",
        };
        format!("{word}  {invariant}")
    }));
    lines.push(format!("{}, staleness at most {}, version {}", audit.schedule, audit.max_staleness, audit.version));
    lines.push(match audit.account {
        Some(Account { leased, trained, dropped, refused, expired, in_flight, unknown, .. }) => {
            let unknown = if unknown > 0 { format!(" + {unknown} unknown") } else { String::new() };
            format!(
                "{leased} leased = {trained} trained + {dropped} dropped + {refused} refused + {expired} expired + \
                 {in_flight} in flight{unknown}"
            )
        }
        None => "no account: `riser audit COORDINATOR LEARNER` makes one of both logs".to_owned(),
    });
    lines.join("\n") + "\n"
}
