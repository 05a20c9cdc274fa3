//! Who is let in, and what newcomers are told.

use riser_proto::{access::Access, join::RunDescription};
use std::{num::NonZeroU32, time::Duration};

/// How callers are received. The default lets everybody in and knows nobody: right inside one process, where every worker
/// has its number and the run's settings already.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    /// What every caller must show.
    pub access: Access,
    /// For workers that know nothing but an address and a learner that must say where it is.
    pub strangers: Option<Strangers>,
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
    /// Whether an earlier coordinator has heard that the run is over: then no learner is waited for.
    pub is_over: bool,
}
