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
