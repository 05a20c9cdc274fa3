//! The two ways out: data to standard output, everything else to standard error.

use anyhow::Context;
use std::fmt::Display;
use std::io::Write;

/// Writes data to standard output.
///
/// # Errors
/// If nobody can take it. A reader that has seen enough, as in `riser ... | head`, is a [`std::io::ErrorKind::BrokenPipe`].
pub(crate) fn data(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).context("cannot write to standard output")
}

/// Writes a line to standard error; if nobody listens, nothing is lost.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes one JSON value on one line to standard output.
///
/// # Errors
/// As [`data`].
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    data(serde_json::to_string(value)? + "\n")
}
