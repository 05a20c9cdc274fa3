//! What happened in a schedule: a digest of everything, by which two executions are compared, and counts for people.

use super::machine;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Shared by everything that takes part; cheap to clone.
#[derive(Clone)]
pub(crate) struct Trace {
    start: Instant,
    record: Arc<Mutex<Record>>,
    broken: CancellationToken,
}

#[derive(Default)]
struct Record {
    digest: blake3::Hasher,
    counts: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

impl Trace {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self { start: Instant::now(), record: Arc::default(), broken: CancellationToken::new() }
    }

    /// Simulated time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Something of the given kind happened.
    pub(crate) fn note(&self, kind: &'static str, what: impl fmt::Display) {
        let now = self.now();
        machine::set_clocks(now);
        let mut record = self.record.lock().unwrap();
        *record.counts.entry(kind).or_default() += 1;
        record.digest.update(format!("{now:?} {kind} {what}\n").as_bytes());
        tracing::trace!(kind, %what);
    }

    /// A promise was broken.
    pub(crate) fn violation(&self, what: impl fmt::Display) {
        let text = format!("at {:.3} s: {what}", self.now().as_secs_f64());
        tracing::error!(text, "violation");
        self.record.lock().unwrap().violations.push(text);
        self.broken.cancel();
    }

    /// Cancelled by the first violation.
    pub(crate) fn broken(&self) -> &CancellationToken {
        &self.broken
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.record.lock().unwrap().violations.clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.record.lock().unwrap().counts.clone()
    }

    pub(crate) fn digest(&self) -> String {
        self.record.lock().unwrap().digest.finalize().to_hex()[..16].to_owned()
    }
}
