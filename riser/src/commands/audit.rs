//! `riser audit`: the invariants of a run, proved again from its event log.

use crate::cli::{self, Format};
use crate::failure::{Hint, Usage};
use crate::output;
use crate::run_folder::RunFolder;
use anyhow::anyhow;
use riser::audit::{self, Account, Audit};
use riser::run_database::{FILE, RunDatabaseError};

/// Prints the audit; a broken invariant is a failure.
pub(crate) fn run(arguments: &cli::Audit, format: Format) -> anyhow::Result<()> {
    let run = RunFolder::existing(&arguments.run)?;
    let audit = match audit::audit(&run.path().join(FILE)) {
        Err(error @ RunDatabaseError::Missing { .. }) => {
            return Err(Usage(format!("{} has no event log: {error}", arguments.run.display())))
                .hint(|| "only `riser train` writes one".to_owned());
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

fn text(audit: &Audit) -> String {
    let mut lines: Vec<String> = audit.violations.iter().map(ToString::to_string).collect();
    lines.extend(audit.checked.iter().map(|invariant| {
        let holds = audit.violations.iter().all(|violation| violation.invariant != *invariant);
        format!("{}  {invariant}", if holds { "holds " } else { "BROKEN" })
    }));
    lines.push(format!("{}, staleness at most {}, version {}", audit.schedule, audit.max_staleness, audit.version));
    lines.push(match audit.account {
        Some(Account { leased, trained, dropped, refused, expired, in_flight, .. }) => format!(
            "{leased} leased = {trained} trained + {dropped} dropped + {refused} refused + {expired} expired + \
             {in_flight} in flight"
        ),
        None => "no account: coordinator and learner have logs of their own".to_owned(),
    });
    lines.join("\n") + "\n"
}
