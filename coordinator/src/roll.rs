//! The roll: which workers take part.
//!
//! It decides nothing about leases, which expire by themselves. It gives out numbers, bounds how many workers there are,
//! and knows when everybody has heard that the run is over.

use crate::reception::Strangers;
use riser_core::ids::WorkerId;
use riser_proto::join::RunDescription;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How long the end of the run waits for workers that say nothing.
const LONGEST_GOODBYE: Duration = Duration::from_secs(30);

/// The roll as the handlers share it.
#[derive(Debug)]
pub(crate) struct Roll {
    strangers: Strangers,
    start: Instant,
    members: Mutex<Members>,
    changed: Notify,
}

/// No more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} workers take part already")]
pub(crate) struct Full {
    limit: usize,
}

impl Roll {
    pub(crate) fn new(strangers: Strangers) -> Self {
        let members = Mutex::new(Members::new(strangers.first_worker));
        Self { strangers, start: Instant::now(), members, changed: Notify::new() }
    }

    pub(crate) fn description(&self) -> &RunDescription {
        &self.strangers.description
    }

    /// Takes up a worker and gives it its number.
    pub(crate) fn join(&self) -> Result<WorkerId, Full> {
        let Strangers { max_workers, silence, .. } = self.strangers;
        let now = Instant::now();
        self.members().join(now, silence, max_workers)
    }

    /// A worker is there; one from before the coordinator was started is taken up again.
    pub(crate) fn heard(&self, worker: WorkerId) {
        self.members().heard(worker, Instant::now(), self.strangers.max_workers);
    }

    /// A worker will not ask again: it left, or it knows that the run is over.
    pub(crate) fn dismiss(&self, worker: WorkerId) {
        self.members().dismiss(worker);
        self.changed.notify_one();
    }

    /// Waits until nobody is left who does not know that the run is over, but not for ever.
    pub(crate) async fn all_dismissed(&self) {
        tokio::time::sleep_until(self.start + self.strangers.returning).await;
        let dismissed = async {
            while !self.members().is_empty() {
                self.changed.notified().await;
            }
        };
        if tokio::time::timeout(LONGEST_GOODBYE.min(self.strangers.silence), dismissed).await.is_err() {
            tracing::warn!("some workers have not heard that the run is over");
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Every change is a single call on a map, so a panic elsewhere leaves nothing half done.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who takes part, and when each was last heard of.
#[derive(Debug)]
struct Members {
    next: u64,
    last_heard: BTreeMap<WorkerId, Instant>,
}

impl Members {
    fn new(first: u64) -> Self {
        Self { next: first, last_heard: BTreeMap::new() }
    }

    fn join(&mut self, now: Instant, silence: Duration, limit: usize) -> Result<WorkerId, Full> {
        self.last_heard.retain(|_, heard| now - *heard < silence);
        if self.last_heard.len() >= limit {
            return Err(Full { limit });
        }
        let worker = WorkerId(self.next);
        self.next = self.next.saturating_add(1);
        self.last_heard.insert(worker, now);
        Ok(worker)
    }

    fn heard(&mut self, worker: WorkerId, now: Instant, limit: usize) {
        // Whoever makes numbers up takes no room.
        if self.last_heard.len() < limit || self.last_heard.contains_key(&worker) {
            self.last_heard.insert(worker, now);
        }
        self.next = self.next.max(worker.0.saturating_add(1));
    }

    fn dismiss(&mut self, worker: WorkerId) {
        self.last_heard.remove(&worker);
    }

    fn is_empty(&self) -> bool {
        self.last_heard.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn numbers_are_never_given_twice_and_the_silent_make_room() {
        let mut members = Members::new(100);
        let start = Instant::now();
        assert_eq!(members.join(start, SILENCE, 2), Ok(WorkerId(100)));
        assert_eq!(members.join(start, SILENCE, 2), Ok(WorkerId(101)));
        assert_eq!(members.join(start, SILENCE, 2), Err(Full { limit: 2 }));
        members.heard(WorkerId(101), start + SILENCE, 2);
        assert_eq!(members.join(start + SILENCE, SILENCE, 2), Ok(WorkerId(102)));
        members.heard(WorkerId(500), start + SILENCE, 2);
        members.dismiss(WorkerId(102));
        members.dismiss(WorkerId(101));
        assert_eq!(members.join(start + SILENCE, SILENCE, 2), Ok(WorkerId(501)));
        assert!(!members.is_empty());
    }
}
