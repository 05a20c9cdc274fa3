//! What the worker is at: told to the coordinator with every word about a lease, and shown as figures.

use crate::meter;
use riser_core::{
    activity::{Timesheet, WorkerReport, WorkerStage},
    delta::offer::PolicyOffer,
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// The worker's account of itself.
#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    shelf: watch::Receiver<PolicyOffer>,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    sheet: Timesheet<WorkerStage>,
    groups: u64,
}

impl Activity {
    /// The account of a worker that begins now and takes its policies from `shelf`.
    pub(crate) fn begin(shelf: watch::Receiver<PolicyOffer>) -> Self {
        meter::begin();
        let book = Book { sheet: Timesheet::begin(WorkerStage::WaitingForLease), groups: 0 };
        Self { start: Instant::now(), shelf, book: Mutex::new(book) }
    }

    /// Ends one part of the work and begins the next. Entering the same part again goes on with it.
    pub(crate) fn enter(&self, stage: WorkerStage) {
        let now = self.start.elapsed();
        let mut book = self.book();
        let before = book.sheet.stage();
        if before != stage {
            meter::spent(before, book.sheet.enter(stage, now));
        }
    }

    /// The learner has so many more groups of this worker.
    pub(crate) fn delivered(&self, groups: u64) {
        self.book().groups += groups;
        meter::delivered(groups);
    }

    /// The account up to now.
    pub(crate) fn report(&self) -> WorkerReport {
        let now: Duration = self.start.elapsed();
        let version = self.shelf.borrow().newest().map(|policy| policy.version);
        let book = self.book();
        WorkerReport { version, stage: book.sheet.stage(), spent: book.sheet.spent(now), groups: book.groups }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change is a single call, so a panic elsewhere leaves nothing half done.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
