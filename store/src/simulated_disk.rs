//! A disk in memory that can crash, for tests: it knows what was asked of it in which order, and what of that was synced.

use crate::file_system::FileSystem;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// One effect on the disk; a crash falls between two of them, and may lose those that no later sync covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A folder is there.
    MakeFolder(PathBuf),
    /// An empty file is there.
    MakeFile(PathBuf),
    /// A file has these bytes.
    Fill(PathBuf, Vec<u8>),
    /// A file or folder has another name.
    Rename(PathBuf, PathBuf),
    /// A file or an empty folder is gone.
    Remove(PathBuf),
    /// The bytes of a file are durable.
    SyncFile(PathBuf),
    /// The names in a folder are durable.
    SyncFolder(PathBuf),
}

impl Effect {
    /// Whether `later` makes this effect survive a crash.
    fn is_synced_by(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Fill(file, _), Self::SyncFile(synced)) => file == synced,
            (Self::MakeFolder(path) | Self::MakeFile(path) | Self::Remove(path), Self::SyncFolder(synced))
            | (Self::Rename(_, path), Self::SyncFolder(synced)) => path.parent() == Some(synced),
            (Self::SyncFile(_) | Self::SyncFolder(_), _) => true,
            _ => false,
        }
    }
}

/// Files by path; `None` is a folder.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Which of the first effects a crash loses.
pub fn unsynced(effects: &[Effect]) -> Vec<usize> {
    let lost = |at: &usize| !effects[*at..].iter().any(|later| effects[*at].is_synced_by(later));
    (0..effects.len()).filter(lost).collect()
}

/// What is on the disk after `effects`; one that depends on something that was lost is lost too.
pub fn replay(start: &Tree, effects: impl IntoIterator<Item = Effect>) -> Tree {
    let mut tree = start.clone();
    for effect in effects {
        let _ = apply(&mut tree, &effect);
    }
    tree
}

fn apply(tree: &mut Tree, effect: &Effect) -> io::Result<()> {
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    let has_folder = |tree: &Tree, path: &Path| match path.parent() {
        Some(parent) if tree.get(parent) != Some(&None) => Err(not_found()),
        _ => Ok(()),
    };
    match effect {
        Effect::MakeFolder(path) => {
            has_folder(tree, path)?;
            tree.insert(path.clone(), None);
        }
        Effect::MakeFile(path) => {
            has_folder(tree, path)?;
            tree.insert(path.clone(), Some(vec![]));
        }
        Effect::Fill(path, bytes) => match tree.get_mut(path) {
            Some(Some(content)) => content.clone_from(bytes),
            _ => return Err(not_found()),
        },
        Effect::Rename(from, to) => {
            has_folder(tree, to)?;
            if tree.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let moved: Vec<PathBuf> = tree.keys().filter(|path| path.starts_with(from)).cloned().collect();
            if moved.is_empty() {
                return Err(not_found());
            }
            for path in moved {
                let node = tree.remove(&path).flatten();
                let renamed = match path.strip_prefix(from) {
                    Ok(rest) if !rest.as_os_str().is_empty() => to.join(rest),
                    _ => to.clone(),
                };
                tree.insert(renamed, node);
            }
        }
        Effect::Remove(path) => drop(tree.remove(path).ok_or_else(not_found)?),
        Effect::SyncFile(path) | Effect::SyncFolder(path) => drop(tree.get(path).ok_or_else(not_found)?),
    }
    Ok(())
}

/// The disk.
#[derive(Debug)]
pub struct SimulatedDisk {
    state: Mutex<(Tree, Vec<Effect>)>,
}

impl SimulatedDisk {
    /// A disk that holds `tree`, all of it durable.
    pub fn with(tree: Tree) -> Self {
        Self { state: Mutex::new((tree, vec![])) }
    }

    /// A disk with the folders `/` and `/run`.
    pub fn empty() -> Self {
        Self::with([(PathBuf::from("/"), None), (PathBuf::from("/run"), None)].into())
    }

    /// What is on it as long as it does not crash.
    pub fn tree(&self) -> Tree {
        self.state().0.clone()
    }

    /// Everything that was asked of the disk so far.
    pub fn effects(&self) -> Vec<Effect> {
        self.state().1.clone()
    }

    fn state(&self) -> MutexGuard<'_, (Tree, Vec<Effect>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, effect: Effect) -> io::Result<()> {
        let mut state = self.state();
        apply(&mut state.0, &effect)?;
        state.1.push(effect);
        Ok(())
    }
}

impl FileSystem for SimulatedDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let ancestors: Vec<_> = folder.ancestors().collect();
        for path in ancestors.into_iter().rev() {
            if !self.tree().contains_key(path) {
                self.run(Effect::MakeFolder(path.to_owned()))?;
            }
        }
        Ok(())
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.run(Effect::MakeFile(file.to_owned()))?;
        self.run(Effect::Fill(file.to_owned(), bytes.to_vec()))
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        self.run(Effect::SyncFile(file.to_owned()))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.run(Effect::SyncFolder(folder.to_owned()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Effect::Rename(from.to_owned(), to.to_owned()))
    }

    /// File by file, as the system does it.
    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        let inside: Vec<PathBuf> = self.tree().into_keys().filter(|path| path.starts_with(folder)).collect();
        inside.into_iter().rev().try_for_each(|path| self.run(Effect::Remove(path)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let inside = |path: &PathBuf| match path.parent() == Some(folder) {
            true => Some(path.file_name()?.to_string_lossy().into_owned()),
            false => None,
        };
        Ok(self.state().0.keys().filter_map(inside).collect())
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.state().0.get(file).cloned().flatten().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
