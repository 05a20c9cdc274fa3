//! What a worker needs to know.

use riser_core::ids::WorkerId;
use riser_proto::call::Patience;
use std::time::Duration;

/// Settings of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Its name in logs and leases.
    pub id: WorkerId,
    /// How long one question for work may stay open. Shorter than the deadline of a call.
    pub lease_wait: Duration,
    /// Groups that may be on their way to the learner without an acknowledgement.
    pub submit_window: usize,
    /// Longest silence of a policy subscription; longer than the learner's heartbeat.
    pub policy_silence: Duration,
    /// Largest policy, in bytes.
    pub max_policy_bytes: u64,
    /// Largest catalog, in bytes.
    pub max_catalog_bytes: u64,
    /// Patience with the coordinator and the learner.
    pub patience: Patience,
}

impl WorkerConfig {
    /// The usual settings for worker `id`.
    pub fn new(id: WorkerId) -> Self {
        Self {
            id,
            lease_wait: Duration::from_secs(15),
            submit_window: 32,
            policy_silence: Duration::from_secs(40),
            max_policy_bytes: 64 << 30,
            max_catalog_bytes: 8 << 30,
            patience: Patience::default(),
        }
    }
}
