//! A command that is stopped in the middle.

use crate::common::riser;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Starts a command, sends `signal` when a line of its standard error starts with `line`, and waits for its end; the second value
/// is what it said after that.
pub(crate) fn stopped_at(folder: &Path, arguments: &[&str], line: &str, signal: &str) -> (ExitStatus, Vec<String>) {
    let mut child = riser(folder, arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|text| text.trim_start().starts_with(line)), "no line `{line}`");
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let rest = lines.collect();
    (child.wait().unwrap(), rest)
}
