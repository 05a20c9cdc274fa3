//! The worker's figures for Prometheus; `docs/metrics.md` explains them. Workers of one process share them.

use metrics::{Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use riser_core::{activity::WorkerStage, ids::PolicyVersion, refusals::RefusalReason};
use std::time::Duration;

const VERSION: &str = "riser_worker_version";
const GROUPS: &str = "riser_worker_groups_total";
const LEASE_WAIT: &str = "riser_worker_lease_wait_seconds";
const POLICY_WAIT: &str = "riser_worker_policy_wait_seconds";
const SAMPLE: &str = "riser_worker_sample_seconds";
const SEND: &str = "riser_worker_send_seconds";
const POLICY_BYTES: &str = "riser_worker_policy_bytes_total";
const RECONNECTS: &str = "riser_worker_reconnects_total";
const REFUSED: &str = "riser_worker_refused_calls_total";

/// Makes every figure known, at zero, before anything has happened.
pub(crate) fn begin() {
    describe();
    let _known: [Histogram; 4] = [LEASE_WAIT, POLICY_WAIT, SAMPLE, SEND].map(|name| histogram!(name));
    for kind in ["delta", "whole"] {
        counter!(POLICY_BYTES, "kind" => kind).increment(0);
    }
    for reason in RefusalReason::ALL {
        counter!(REFUSED, "reason" => reason.name()).increment(0);
    }
    for name in [GROUPS, RECONNECTS] {
        counter!(name).increment(0);
    }
    gauge!(VERSION).increment(0.0);
}

/// A part of the work has ended.
pub(crate) fn spent(stage: WorkerStage, took: Duration) {
    let name = match stage {
        WorkerStage::WaitingForLease => LEASE_WAIT,
        WorkerStage::WaitingForPolicy => POLICY_WAIT,
        WorkerStage::Sampling => SAMPLE,
        WorkerStage::Sending => SEND,
    };
    histogram!(name).record(took);
}

/// The learner has so many more groups.
pub(crate) fn delivered(groups: u64) {
    counter!(GROUPS).increment(groups);
}

/// A policy of `bytes` arrived.
pub(crate) fn received(version: PolicyVersion, by_delta: bool, bytes: u64) {
    counter!(POLICY_BYTES, "kind" => if by_delta { "delta" } else { "whole" }).increment(bytes);
    gauge!(VERSION).set(version.0 as f64);
}

/// A stream broke and is opened again.
pub(crate) fn reconnected() {
    counter!(RECONNECTS).increment(1);
}

/// A call for policies was refused at the door.
pub(crate) fn refused(reason: RefusalReason) {
    counter!(REFUSED, "reason" => reason.name()).increment(1);
}

fn describe() {
    describe_gauge!(VERSION, "Newest policy version in hand");
    describe_counter!(GROUPS, "Groups delivered");
    describe_histogram!(LEASE_WAIT, "Seconds waited for a lease");
    describe_histogram!(POLICY_WAIT, "Seconds that a lease waited for its policy");
    describe_histogram!(SAMPLE, "Seconds of sampling, per lease");
    describe_histogram!(SEND, "Seconds until the learner had acknowledged the groups of a lease");
    describe_counter!(POLICY_BYTES, "Bytes of policies received");
    describe_counter!(REFUSED, "Calls for policies that were refused at the door");
    describe_counter!(RECONNECTS, "Streams that broke and were opened again");
}
