//! The calls that a server has refused at its door, as its services share them.

use super::Caller;
use riser_core::{
    activity::Trouble,
    refusals::{RecentRefusals, RefusalReason},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use tonic::Status;

/// Metadata of an answer: why the call was refused at the door.
const REFUSED: &str = "riser-refused";

/// The book of refused calls: one count of each for `counter`, a bounded number of log lines, and the last few for whoever
/// watches. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Refusals {
    counter: fn(RefusalReason),
    start: Instant,
    recent: Arc<Mutex<RecentRefusals>>,
}

impl Refusals {
    /// An empty book; `counter` is called once for every refused call.
    pub fn counted_by(counter: fn(RefusalReason)) -> Self {
        Self { counter, start: Instant::now(), recent: Arc::default() }
    }

    /// A call was refused; `what` is for people.
    pub fn note(&self, caller: Caller, reason: RefusalReason, what: &str) {
        (self.counter)(reason);
        let (from, now) = (caller.address.map(|address| address.ip()), self.start.elapsed());
        if self.recent().note(from, reason, &caller.to_string(), what, now) {
            tracing::warn!(%caller, %reason, what, "call refused");
        }
    }

    /// The last few, the longest ago first; repetitions are one.
    pub fn list(&self) -> Vec<Trouble> {
        let now = self.start.elapsed();
        self.recent().list(now)
    }

    fn recent(&self) -> MutexGuard<'_, RecentRefusals> {
        // Every change is a single call on a map, so a panic elsewhere leaves nothing half done.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a server refused a call at its door, if that is what `status` says; for finding a remedy.
pub fn reason_of(status: &Status) -> Option<RefusalReason> {
    let name = status.metadata().get(REFUSED)?;
    RefusalReason::ALL.into_iter().find(|reason| name == reason.name())
}

/// Writes the reason into the answer.
pub(super) fn marked(mut status: Status, reason: RefusalReason) -> Status {
    let name = reason.name().parse().expect("the name of a reason is plain ASCII");
    status.metadata_mut().insert(REFUSED, name);
    status
}
