//! Where policy versions are put as soon as they exist.
//!
//! The publisher puts a version on the shelf and goes on; [`crate::distribution`] makes deltas of it, subscriptions are fed
//! from those, and none of them can hold up the step loop. The shelf holds the versions that open batches are sampled with.

use riser_core::{ids::PolicyVersion, pacing::Pacing, snapshot::PolicySnapshot};
use std::sync::Arc;
use tokio::sync::watch;

/// The retained versions as they are served, ascending; shared, never changed.
pub type Shelf = Arc<[Arc<PolicySnapshot>]>;

/// The policy of `version`, if it is on the shelf.
pub fn find(shelf: &Shelf, version: PolicyVersion) -> Option<&Arc<PolicySnapshot>> {
    shelf.iter().find(|snapshot| snapshot.version() == version)
}

/// The writing end; dropping it ends the distribution, and every subscription after what is on offer has been sent.
#[derive(Debug)]
pub struct Publisher {
    pacing: Pacing,
    shelf: watch::Sender<Shelf>,
}

impl Publisher {
    /// A publisher with an empty shelf.
    pub fn new(pacing: Pacing) -> (Self, watch::Receiver<Shelf>) {
        let (shelf, receiver) = watch::channel(Shelf::from([]));
        (Self { pacing, shelf }, receiver)
    }

    /// Puts a version on the shelf and removes those that no lease names any more. Waits for nobody.
    pub fn publish(&self, snapshot: PolicySnapshot) {
        let retained = self.pacing.retained(snapshot.version());
        self.shelf.send_modify(|shelf| {
            let older = shelf.iter().filter(|older| retained.contains(&older.version().0)).cloned();
            *shelf = older.chain([Arc::new(snapshot)]).collect();
        });
    }

    /// What is on the shelf.
    pub fn shelf(&self) -> Shelf {
        self.shelf.borrow().clone()
    }
}

#[cfg(test)]
mod tests;
