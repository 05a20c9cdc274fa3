//! Two learners with one folder: whatever one does between two operations of the other, a version is whole and never replaced.

use super::*;
use crate::simulated_disk::SimulatedDisk;
use std::{fmt, io, sync::Mutex};

const ROOT: &str = "/run/checkpoints";

type Work = Box<dyn FnOnce() + Send>;

/// A disk on which something else happens before one of the operations.
struct Interrupted {
    disk: Arc<SimulatedDisk>,
    /// Operations before it, and what it is.
    other: Mutex<(usize, Option<Work>)>,
}

impl Interrupted {
    fn disk(&self) -> &SimulatedDisk {
        let other = {
            let mut other = self.other.lock().unwrap();
            match other.0.checked_sub(1) {
                Some(left) => {
                    other.0 = left;
                    None
                }
                None => other.1.take(),
            }
        };
        if let Some(other) = other {
            other();
        }
        &self.disk
    }
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("interrupted disk")
    }
}

impl FileSystem for Interrupted {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk().create_folder(folder)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.disk().write(file, bytes)
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        self.disk().sync_file(file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk().sync_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk().remove_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.disk().list(folder)
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.disk().read(file)
    }
}

fn write(files: Arc<dyn FileSystem>, writer: u64, content: &str) -> Result<Checkpoint<String>, FolderError> {
    let contents = Contents::new().with_bytes("model", content.as_bytes()).with_bytes("retained/older", "older");
    CheckpointFolder::on(files, ROOT).written_by(writer).write(7, "about".to_owned(), contents)
}

/// The content of the version after both have written, and how each ended.
type End = (String, Result<Checkpoint<String>, FolderError>, Result<Checkpoint<String>, FolderError>);

/// One writes and the other does all of its work before the operation `at`; `None` if there are not so many.
fn interrupted(at: usize, one: &str, other: &'static str) -> Option<End> {
    let disk = Arc::new(SimulatedDisk::empty());
    let (second, there) = (Arc::new(Mutex::new(None)), disk.clone());
    let result = second.clone();
    let work: Work = Box::new(move || *result.lock().unwrap() = Some(write(there, 2, other)));
    let files = Arc::new(Interrupted { disk: disk.clone(), other: Mutex::new((at, Some(work))) });
    let first = write(files, 1, one);
    let second = second.lock().unwrap().take()?;
    let checkpoint = CheckpointFolder::<String>::on(disk.clone(), ROOT).open(7).unwrap();
    let content = String::from_utf8(disk.read(&checkpoint.path.join("model")).unwrap()).unwrap();
    Some((content, first, second))
}

#[test]
fn of_two_writers_of_other_contents_one_commits_and_the_other_hears() {
    let ends: Vec<End> = (0..).map_while(|at| interrupted(at, "one", "two")).collect();
    assert!(ends.len() > 10, "{} operations", ends.len());
    for (content, first, second) in ends {
        let (winner, loser) = if content == "one" { (first, second) } else { (second, first) };
        assert!(winner.is_ok(), "{winner:?}");
        assert!(matches!(loser, Err(FolderError::Diverged { .. })), "{loser:?}");
    }
}

#[test]
fn two_writers_of_the_same_content_both_succeed() {
    for (content, first, second) in (0..).map_while(|at| interrupted(at, "same", "same")) {
        assert_eq!((content.as_str(), first.is_ok(), second.is_ok()), ("same", true, true), "{first:?} {second:?}");
    }
}
