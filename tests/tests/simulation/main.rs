//! The three roles together, with a policy that is a hash: what a run computes must not depend on how it was executed.
//!
//! Networks are in memory and time is simulated unless a test says otherwise, so nothing here waits.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod bounded_runs;
mod catalog_transfer;
mod checkpoints;
mod cluster_runs;
mod coordinator_restart;
mod event_log;
mod hash_policy;
mod learner_gate;
mod learner_restart;
mod network;
mod relay_tree;
mod resume;
mod scenario;
mod schedules;
mod slow_logs;
mod watching;
mod weights;
mod worker_loss;
