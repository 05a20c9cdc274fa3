//! Where the golden cases lie.

use std::path::{Path, PathBuf};

/// The entries of the golden folder `kind` (`objective` or `policy`) that `is_case` accepts, sorted.
///
/// The golden folder is the one that `RISER_GOLDEN` names (relative to the workspace), else `tests/golden`. A folder
/// without cases is a failure: a test that compares nothing proves nothing.
pub(crate) fn cases(kind: &str, is_case: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = match std::env::var_os("RISER_GOLDEN") {
        Some(folder) => package.join("..").join(folder),
        None => package.join("golden"),
    };
    let folder = root.join(kind);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable entry").path()).filter(|path| is_case(path)).collect();
    cases.sort();
    assert!(!cases.is_empty(), "{}: no case found", folder.display());
    cases
}
