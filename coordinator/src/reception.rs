//! Who is let in, and what newcomers are told.

use riser_proto::{access::Access, join::RunDescription};
use std::{error::Error, fmt, future::Future, num::NonZeroU32, pin::Pin, sync::Arc, time::Duration};

/// How callers are received. The default lets everybody in and knows nobody: right inside one process, where every worker
/// has its number and the run's settings already.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    /// What every caller must show.
    pub access: Access,
    /// For workers that know nothing but an address and a learner that must say where it is.
    pub strangers: Option<Strangers>,
}

/// The one thing that a coordinator has to remember beyond its own end: that the run is over.
pub trait Memory: fmt::Debug + Send + Sync {
    /// Keeps it for good; returns when nothing can take it away any more, so that the next coordinator waits for no learner.
    ///
    /// # Errors
    /// Whatever keeps it from being kept; the coordinator ends with it.
    fn keep_end(&self) -> Remembering<'_, ()>;

    /// Whether it has been kept, by an earlier coordinator or by one that is still there.
    ///
    /// # Errors
    /// Whatever keeps it from being known; the coordinator ends with it.
    fn is_over(&self) -> Remembering<'_, bool>;
}

/// The end of which is awaited.
pub type Remembering<'a, T> = Pin<Box<dyn Future<Output = Result<T, MemoryError>> + Send + 'a>>;

/// Why something cannot be remembered, in its own words.
pub type MemoryError = Box<dyn Error + Send + Sync>;

/// Remembers nothing: for a coordinator that is never started again.
impl Memory for () {
    fn keep_end(&self) -> Remembering<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn is_over(&self) -> Remembering<'_, bool> {
        Box::pin(async { Ok(false) })
    }
}

/// What workers that join are told, and how they are counted.
#[derive(Debug, Clone)]
pub struct Strangers {
    /// The run.
    pub description: RunDescription,
    /// Number of the first worker that joins; larger than all numbers given out before a restart.
    pub first_worker: u64,
    /// Most workers at one time.
    pub max_workers: usize,
    /// Workers that take their policies from one place.
    pub fan_out: NonZeroU32,
    /// Silence after which a worker counts as gone; longer than a question for work is kept open.
    pub silence: Duration,
    /// Silence after which the end of the run does not wait for a worker: a few times as long as one is silent that renews its
    /// lease or tries again after a pause. Whoever has a question open is answered at the end, so it need not be longer.
    pub quiet: Duration,
    /// How long after the start workers of an earlier coordinator may take to speak again; zero if there was none. A run
    /// does not end for them before.
    pub returning: Duration,
    /// Where it is kept that the run is over: then no learner is waited for.
    pub memory: Arc<dyn Memory>,
}
