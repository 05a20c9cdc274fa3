//! Files that are there completely or not at all.

use std::{
    io::{self, Write},
    path::Path,
};

/// Writes `bytes` to `path` through a file beside it and a rename, so a reader never sees a part. When it returns, they are on
/// disk under that name.
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
    std::fs::rename(&partial, path)?;
    // A rename is in the folder's data. The parent of a bare name is empty and means the present folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}
