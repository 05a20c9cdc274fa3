//! How a run stands, for people: as text and, in [`screen`], as a page of a terminal.

pub(crate) mod screen;
mod words;

use crate::table;
use riser_core::cluster_status::ClusterStatus;
use words::{duration, role_rows};

/// Columns of the table of roles.
pub(crate) const ROLES: [&str; 8] = ["role", "state", "version", "lag", "leases", "groups", "heard", "where"];

/// The whole status.
pub(crate) fn text(status: &ClusterStatus) -> String {
    let mut text = String::new();
    for (name, value) in words::summary(status) {
        text += &format!("{name:<12}{value}\n");
    }
    text += "\n";
    text += &table::render(&ROLES, &role_rows(status));
    let hidden = status.num_workers.saturating_sub(status.workers.len() as u64);
    if hidden > 0 {
        text += &format!("and {hidden} more workers\n");
    }
    if !status.troubles.is_empty() {
        text += "\ntroubles, newest first\n";
    }
    for trouble in &status.troubles {
        text += &format!("{:>8} ago  {}: {}\n", duration(trouble.seconds_ago), trouble.who, trouble.what);
    }
    text
}

#[cfg(test)]
mod tests;
