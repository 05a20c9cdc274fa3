//! Finding the checkpoint to go on from, and keeping the folder small.

use super::{Checkpoint, CheckpointFolder, KEPT_DAMAGED, PARTIAL, PREFIX, REMOVED, damaged_of, name_of};
use crate::{
    damage::{Damage, Skipped},
    error::FolderError,
};
use serde::{Serialize, de::DeserializeOwned};

/// What recovery found.
#[derive(Debug)]
pub struct Recovered<A> {
    /// The newest whole checkpoint; `None` if there was never one.
    pub newest: Option<Checkpoint<A>>,
    /// Newer ones that are damaged, newest first; they have been set aside.
    pub skipped: Vec<Skipped>,
}

impl<A: Serialize + DeserializeOwned> CheckpointFolder<A> {
    /// Finds the newest whole checkpoint, sets newer damaged ones aside and removes what a crash left half-written, and of
    /// the damaged ones from before all but the newest three.
    ///
    /// # Errors
    /// [`FolderError::NoneWhole`] if there are checkpoints and each is damaged; nothing is set aside then, since an empty
    /// folder would look like a run that never began.
    pub fn recover(&mut self) -> Result<Recovered<A>, FolderError> {
        self.sweep()?;
        let mut damaged: Vec<(u64, Damage)> = vec![];
        for version in self.versions()?.into_iter().rev() {
            match self.inspect(version)? {
                Ok(checkpoint) => {
                    self.whole.insert(version);
                    let skipped = damaged.iter().map(|(version, damage)| self.set_aside(*version, damage));
                    return Ok(Recovered { newest: Some(checkpoint), skipped: skipped.collect::<Result<_, _>>()? });
                }
                Err(damage) => damaged.push((version, damage)),
            }
        }
        if damaged.is_empty() {
            return Ok(Recovered { newest: None, skipped: vec![] });
        }
        let damaged = damaged.iter().map(|(version, damage)| Skipped {
            version: *version,
            place: self.path_of(*version).display().to_string(),
            reason: damage.to_string(),
        });
        Err(FolderError::NoneWhole { path: self.path.clone(), damaged: damaged.collect() })
    }

    /// Removes all but the newest `keep` whole checkpoints, and never the newest one nor a version in `needed`. Damaged
    /// ones do not count; those that are met are set aside and returned.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn prune(&mut self, keep: usize, needed: &[u64]) -> Result<Vec<Skipped>, FolderError> {
        let (mut num_whole, mut skipped) = (0, vec![]);
        for version in self.versions()?.into_iter().rev() {
            if num_whole < keep.max(1) {
                let damage = if self.whole.contains(&version) { None } else { self.inspect(version)?.err() };
                match damage {
                    None => {
                        self.whole.insert(version);
                        num_whole += 1;
                    }
                    Some(damage) => skipped.push(self.set_aside(version, &damage)?),
                }
            } else if !needed.contains(&version) {
                self.remove(version)?;
            }
        }
        Ok(skipped)
    }

    /// Takes a version's name away first, so that a removal cut short does not look like a damaged checkpoint.
    fn remove(&mut self, version: u64) -> Result<(), FolderError> {
        self.whole.remove(&version);
        let (from, to) = (self.path_of(version), self.path.join(format!(".{}{REMOVED}", name_of(version))));
        self.files.remove_folder(&to).map_err(FolderError::io(&to))?;
        self.files.rename(&from, &to).map_err(FolderError::io(&from))?;
        self.files.sync_folder(&self.path).map_err(FolderError::io(&self.path))?;
        self.files.remove_folder(&to).map_err(FolderError::io(&to))
    }

    /// Removes what a crash left half-written or half-removed, and old damage. What this recovery is about to set aside
    /// stays: it is told where that lies.
    fn sweep(&self) -> Result<(), FolderError> {
        let names = self.files.list(&self.path).map_err(FolderError::io(&self.path))?;
        let leftover = |name: &&String| {
            name.strip_prefix('.')
                .is_some_and(|rest| rest.starts_with(PREFIX) && (rest.ends_with(PARTIAL) || rest.ends_with(REMOVED)))
        };
        let mut damaged: Vec<&String> = names.iter().filter(|name| damaged_of(name).is_some()).collect();
        damaged.sort_unstable_by_key(|name| std::cmp::Reverse(damaged_of(name)));
        names.iter().filter(leftover).chain(damaged.into_iter().skip(KEPT_DAMAGED)).try_for_each(|name| {
            let path = self.path.join(name);
            self.files.remove_folder(&path).map_err(FolderError::io(&path))
        })
    }
}
