//! What a run goes on from: the newest whole checkpoint of the local disk or of the durable store.
//!
//! A damaged checkpoint is passed over with its reason, and a run whose folder is gone, or older than what the store has,
//! goes on from the store. Where the store has other content than the disk for the newest version, because two learners ran at one
//! time, the store's counts. Only when there are checkpoints and none is whole anywhere, recovery fails.

use crate::{
    checkpoint::{self, Checkpoint, CheckpointError, Folder},
    config::DurableConfig,
};
use riser_store::{Damage, FolderError, Skipped};
use std::path::Path;
use tokio::task::spawn_blocking;

/// What was found.
#[derive(Debug)]
pub struct Recovery {
    /// The checkpoint to go on from; `None` if the run has none yet.
    pub checkpoint: Option<Checkpoint>,
    /// Damaged checkpoints that were passed over.
    pub skipped: Vec<Skipped>,
    /// Whether the checkpoint came from the durable store.
    pub restored: bool,
}

/// Finds the checkpoint to go on from and brings it to the local disk if it is not there.
///
/// # Errors
/// [`FolderError::NoneWhole`] inside if there are checkpoints and each is damaged; [`CheckpointError::Store`] if the store
/// cannot be asked and the local disk has nothing to go on from.
pub async fn recover(folder: &Path, durable: Option<&DurableConfig>) -> Result<Recovery, CheckpointError> {
    let path = folder.to_owned();
    let scan = || {
        let path = path.clone();
        spawn_blocking(move || Folder::new(path).recover())
    };
    // With a store, a folder in which nothing is whole is as good as one that is gone.
    let (mut newest, mut skipped, hopeless) = match (scan().await?, durable) {
        (Ok(found), _) => (found.newest, found.skipped, None),
        (Err(error @ FolderError::NoneWhole { .. }), Some(_)) => (None, vec![], Some(error)),
        (Err(error), _) => return Err(error.into()),
    };
    let (mut restored, mut is_foreign) = (false, false);
    if let Some(DurableConfig { store, .. }) = durable {
        if let Some(local) = &newest
            && store.has_other(local).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "durable store cannot be asked what it has");
                false
            })
        {
            is_foreign = true;
            let (mut all, version) = (Folder::new(folder), local.manifest.version);
            skipped.push(spawn_blocking(move || all.pass_over(version, &Damage::Diverged)).await??);
            newest = scan().await??.newest;
        }
        let after = newest.as_ref().map(|checkpoint| checkpoint.manifest.version);
        match store.fetch_newest(&Folder::new(folder), after).await {
            Ok(fetched) => {
                skipped.extend(fetched.skipped);
                if fetched.newest.is_some() {
                    tracing::info!(version = fetched.newest.as_ref().map(|one| one.manifest.version), "restored");
                    // Sets aside what is damaged and newer than what was fetched.
                    let found = scan().await??;
                    skipped.extend(found.skipped);
                    (newest, restored) = (found.newest, true);
                }
            }
            // What the store has is the run then, and the next start may get it.
            Err(error) if is_foreign => return Err(error.into()),
            Err(error) if newest.is_some() && !error.is_final() => {
                tracing::warn!(%error, "durable store cannot be asked; going on from the local checkpoint");
            }
            Err(error) => return Err(error.into()),
        }
    }
    match (newest, hopeless) {
        (None, Some(error)) => Err(error.into()),
        (newest, _) => {
            let load = spawn_blocking(|| newest.map(checkpoint::load).transpose());
            Ok(Recovery { checkpoint: load.await??, skipped, restored })
        }
    }
}

#[cfg(test)]
mod tests;
