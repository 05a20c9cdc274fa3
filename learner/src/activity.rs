//! What the learner is at: written by its actors, told to the coordinator with every report.

use riser_core::activity::{LearnerActivity, LearnerStage, Timesheet, Troubles};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The learner's account of its time and troubles; cheap to clone.
#[derive(Debug, Clone)]
pub struct Activity {
    start: Instant,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug)]
struct Book {
    sheet: Timesheet<LearnerStage>,
    troubles: Troubles,
}

impl Default for Activity {
    /// An account that begins now.
    fn default() -> Self {
        let book = Book { sheet: Timesheet::begin(LearnerStage::Starting), troubles: Troubles::default() };
        Self { start: Instant::now(), book: Arc::new(Mutex::new(book)) }
    }
}

impl Activity {
    /// The step loop begins another part of its work; returns what the part before took.
    pub fn enter(&self, stage: LearnerStage) -> Duration {
        let now = self.start.elapsed();
        self.book().sheet.enter(stage, now)
    }

    /// Something went wrong that does not end the run.
    pub fn trouble(&self, who: &str, what: &str) {
        let now = self.start.elapsed();
        self.book().troubles.note(who, what, now);
    }

    /// The account up to now.
    pub fn report(&self) -> LearnerActivity {
        let now = self.start.elapsed();
        let book = self.book();
        let (stage, spent) = (book.sheet.stage(), book.sheet.spent(now));
        LearnerActivity { stage, spent, troubles: book.troubles.list(now) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change is a single call, so a panic elsewhere leaves nothing half done.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
