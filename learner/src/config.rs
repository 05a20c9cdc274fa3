//! What the learner needs to know about the run.

use crate::presence::Presence;
use riser_core::{
    digest::Digest, group::GroupLimits, ids::PolicyVersion, lockstep::Lockstep, logprob_space::LogprobSpace,
    snapshot::PolicySnapshot,
};
use riser_proto::call::Patience;
use std::{path::PathBuf, time::Duration};

/// Settings of the learner.
#[derive(Debug, Clone)]
pub struct LearnerConfig {
    /// Batches, versions and the lag between them.
    pub lockstep: Lockstep,
    /// The space that every group must have its log-probabilities in.
    pub space: LogprobSpace,
    /// Batches of the whole run.
    pub total_batches: u64,
    /// Version the trainer is at.
    pub start_version: PolicyVersion,
    /// Digest that the trainer's policy must have at the start, from the checkpoint; `None` for a new run.
    pub start_digest: Option<Digest>,
    /// Policies before `start_version` that open batches are sampled with, from the checkpoint; see [`Lockstep::retained`].
    pub retained: Vec<PolicySnapshot>,
    /// Sizes beyond which a group is refused.
    pub limits: GroupLimits,
    /// Steps between evaluations; 0 for none. The last version is always evaluated then.
    pub evaluate_every: u64,
    /// Whether to evaluate before the first step of the run as well.
    pub evaluate_at_start: bool,
    /// Where and how often to keep checkpoints; `None` for none.
    pub checkpoints: Option<CheckpointConfig>,
    /// Workers that may subscribe at one time.
    pub max_subscribers: usize,
    /// Silence after which the publisher says that it is alive.
    pub heartbeat: Duration,
    /// How long a subscriber may leave a message untaken before it is dropped.
    pub subscriber_timeout: Duration,
    /// Patience with the coordinator.
    pub patience: Patience,
    /// How it appears to the rest of the cluster.
    pub presence: Presence,
}

/// Where and how often to keep checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Folder of all checkpoints of the run.
    pub folder: PathBuf,
    /// Steps between checkpoints; 0 keeps one at the end only. The end of a session always has one.
    pub every: u64,
    /// Newest checkpoints to keep; older ones are deleted. At least one is kept.
    pub keep: usize,
}

impl LearnerConfig {
    /// A learner at the beginning of a run that evaluates nothing and keeps no checkpoints.
    pub fn new(lockstep: Lockstep, space: LogprobSpace, total_batches: u64) -> Self {
        Self {
            lockstep,
            space,
            total_batches,
            start_version: PolicyVersion(0),
            start_digest: None,
            retained: vec![],
            limits: GroupLimits::default(),
            evaluate_every: 0,
            evaluate_at_start: false,
            checkpoints: None,
            max_subscribers: 1024,
            heartbeat: Duration::from_secs(10),
            subscriber_timeout: Duration::from_secs(60),
            patience: Patience::default(),
            presence: Presence::default(),
        }
    }
}
