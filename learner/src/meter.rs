//! The learner's figures for Prometheus; `docs/metrics.md` explains them.

use crate::{Metrics, event::StepReport};
use metrics::{Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use riser_core::{ids::PolicyVersion, refusals::RefusalReason, run_event::ArrivalFate};
use riser_proto::egress::Egress;
use std::time::Duration;

const VERSION: &str = "riser_learner_version";
const STEPS: &str = "riser_learner_steps_total";
const GROUPS: &str = "riser_learner_groups_total";
const REFUSED: &str = "riser_learner_refused_calls_total";
const INGEST: &str = "riser_learner_ingest_bytes_total";
const EGRESS: &str = "riser_learner_egress_bytes_total";
const SUBSCRIBERS: &str = "riser_learner_subscribers";
const BATCH_WAIT: &str = "riser_learner_batch_wait_seconds";
const STEP: &str = "riser_learner_step_seconds";
const CHECKPOINT: &str = "riser_learner_checkpoint_seconds";
const CHECKPOINT_VERSION: &str = "riser_learner_checkpoint_version";
const EVALUATION: &str = "riser_learner_evaluation";
const STALENESS: &str = "riser_learner_staleness";

/// What a trainer measures at each step, and the gauge that shows it.
const OF_STEP: [(&str, &str); 4] = [
    ("mean_reward", "riser_learner_reward_mean"),
    ("loss", "riser_learner_loss"),
    ("item_entropy", "riser_learner_item_entropy_nats"),
    ("mismatch_max", "riser_learner_mismatch_max"),
];

/// Makes every figure known, at zero, before anything has happened.
pub(crate) fn begin(version: PolicyVersion) {
    describe();
    for outcome in ["trained", "admitted", "duplicate", "refused", "untimely"] {
        counter!(GROUPS, "outcome" => outcome).absolute(0);
    }
    for reason in RefusalReason::ALL {
        counter!(REFUSED, "reason" => reason.name()).absolute(0);
    }
    for name in [STEPS, INGEST, EGRESS] {
        counter!(name).absolute(0);
    }
    for name in [SUBSCRIBERS, CHECKPOINT_VERSION, STALENESS].into_iter().chain(OF_STEP.map(|(_, name)| name)) {
        gauge!(name).set(0.0);
    }
    let _known: [Histogram; 3] = [BATCH_WAIT, STEP, CHECKPOINT].map(|name| histogram!(name));
    gauge!(VERSION).set(version.0 as f64);
}

/// A step was taken.
pub(crate) fn step(report: &StepReport) {
    counter!(STEPS).increment(1);
    counter!(GROUPS, "outcome" => "trained").increment(report.num_groups as u64);
    gauge!(VERSION).set(report.version.0 as f64);
    gauge!(STALENESS).set(report.staleness as f64);
    histogram!(BATCH_WAIT).record(report.wait_seconds);
    histogram!(STEP).record(report.learn_seconds);
    for (measured, name) in OF_STEP {
        if let Some(value) = report.metrics.get(measured) {
            gauge!(name).set(*value);
        }
    }
}

/// A group of `bytes` arrived.
pub(crate) fn arrived(fate: &ArrivalFate, bytes: u64) {
    let outcome = match fate {
        ArrivalFate::Admitted => "admitted",
        ArrivalFate::Duplicate => "duplicate",
        ArrivalFate::Rejected(_) => "refused",
        ArrivalFate::Untimely(_) => "untimely",
    };
    counter!(GROUPS, "outcome" => outcome).increment(1);
    counter!(INGEST).increment(bytes);
}

/// A call was refused at the door.
pub(crate) fn refused(reason: RefusalReason) {
    counter!(REFUSED, "reason" => reason.name()).increment(1);
}

/// A policy was measured.
pub(crate) fn evaluated(metrics: &Metrics) {
    for (name, value) in metrics {
        let measured: Gauge = gauge!(EVALUATION, "metric" => name.clone());
        measured.set(*value);
    }
}

/// A checkpoint was written in `took`.
pub(crate) fn saved(version: PolicyVersion, took: Duration) {
    histogram!(CHECKPOINT).record(took);
    gauge!(CHECKPOINT_VERSION).set(version.0 as f64);
}

/// What subscriptions have cost so far.
pub(crate) fn egress(egress: &Egress) {
    counter!(EGRESS).absolute(egress.total.bytes);
    gauge!(SUBSCRIBERS).set(egress.subscribers.len() as f64);
}

fn describe() {
    describe_gauge!(VERSION, "Steps that the policy has taken");
    describe_counter!(STEPS, "Steps taken by this process");
    describe_counter!(GROUPS, "Groups by what became of them");
    describe_counter!(REFUSED, "Calls that were refused at the door");
    describe_counter!(INGEST, "Bytes of groups that arrived");
    describe_counter!(EGRESS, "Bytes of policies and heartbeats sent to subscribers");
    describe_gauge!(SUBSCRIBERS, "Open policy subscriptions");
    describe_histogram!(BATCH_WAIT, "Seconds that the learner waited for a batch");
    describe_histogram!(STEP, "Seconds that a step took");
    describe_histogram!(CHECKPOINT, "Seconds that writing a checkpoint took");
    describe_gauge!(CHECKPOINT_VERSION, "Version of the newest checkpoint on the disk");
    describe_gauge!(EVALUATION, "What the last evaluation measured");
    describe_gauge!(STALENESS, "Most steps between sampling and training in the last batch");
    describe_gauge!("riser_learner_reward_mean", "Mean reward of the last batch");
    describe_gauge!("riser_learner_loss", "Loss of the last step");
    describe_gauge!("riser_learner_item_entropy_nats", "Mean entropy over items of the last batch");
    describe_gauge!("riser_learner_mismatch_max", "Largest mismatch of sampler and learner in the last batch");
}
