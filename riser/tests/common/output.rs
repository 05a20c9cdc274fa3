//! A command that ends by itself.

use crate::common::riser;
use std::path::Path;
use std::process::Stdio;

/// Its exit status, standard output and standard error.
pub(crate) fn output(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = riser(folder, arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
