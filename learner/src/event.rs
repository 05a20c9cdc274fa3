//! What the learner tells whoever watches the run.

use crate::Metrics;
use riser_core::{digest::Digest, ids::PolicyVersion};
use serde::Serialize;
use std::path::PathBuf;

/// One thing that happened, ready to be written as a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An optimizer step.
    Step(StepReport),
    /// An evaluation.
    Evaluation {
        /// The policy that was measured.
        version: PolicyVersion,
        /// What the trainer measured.
        metrics: Metrics,
        /// Seconds it took.
        seconds: f64,
    },
    /// A checkpoint, complete on disk.
    Checkpoint {
        /// The policy in it.
        version: PolicyVersion,
        /// Its folder.
        folder: PathBuf,
    },
    /// A checkpoint that was due and could not be written. Training goes on and the next one is tried when it is due.
    CheckpointFailed {
        /// The policy that was to be in it.
        version: PolicyVersion,
        /// What went wrong.
        reason: String,
    },
    /// A damaged checkpoint that was passed over.
    CheckpointSkipped {
        /// The policy in it.
        version: PolicyVersion,
        /// Where it has been set aside.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint, committed in the durable store.
    Stored {
        /// The policy in it.
        version: PolicyVersion,
    },
    /// A checkpoint that could not be brought to the durable store. The next one is tried when it is written.
    StoreFailed {
        /// The policy in it.
        version: PolicyVersion,
        /// What went wrong.
        reason: String,
    },
    /// The end of the learner's work.
    End(Outcome),
}

/// One optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Version after the step.
    pub version: PolicyVersion,
    /// Most steps between the version that sampled a group of the batch and the one that was trained on it.
    pub staleness: u64,
    /// Groups in the batch.
    pub num_groups: usize,
    /// Share of groups without a hit.
    pub miss_share: f64,
    /// Seconds the learner waited for the batch.
    pub wait_seconds: f64,
    /// Seconds the step took.
    pub learn_seconds: f64,
    /// What the trainer measured.
    pub metrics: Metrics,
}

/// How the learner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Version of the last policy.
    pub version: PolicyVersion,
    /// Digest of the last policy.
    pub digest: Digest,
    /// Whether every batch has been trained; false if the run was interrupted.
    pub finished: bool,
}
