//! Files that are there completely or not at all.

use std::{
    io::{self, Write},
    path::Path,
};

/// Writes `bytes` to `path` through a file beside it and a rename, so a reader never sees a part.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}
