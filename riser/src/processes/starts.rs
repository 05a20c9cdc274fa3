//! How often a role has been started on a run folder: the number that tells a process from those before it.

use anyhow::Context;
use std::path::Path;

/// Counts one more start; 1 for the first.
pub(super) fn count(path: &Path) -> anyhow::Result<u64> {
    let before: u64 = match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} is damaged: not a number", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let now = before.saturating_add(1);
    riser_core::atomic_file::write(path, format!("{now}\n").as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(now)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_start_has_a_larger_number_and_a_damaged_count_is_no_new_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("starts");
        assert_eq!([(); 3].map(|()| super::count(&path).unwrap()), [1, 2, 3]);
        std::fs::write(&path, "x").unwrap();
        assert!(super::count(&path).is_err());
    }
}
