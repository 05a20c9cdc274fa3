//! Whoever watches a run and says at once when a promise is broken, knowing what an undisturbed run would have computed.

use super::trace::Trace;
use crate::{
    hash_policy::{HashSampler, HashTrainer},
    scenario::{Scenario, Versions},
};
use riser_core::{
    group::RolloutGroup, group_set::GroupSet, ids::PolicyVersion, lease::SampleRequest, pacing::Pacing,
    run_event::RunEvent, snapshot::PolicySnapshot,
};
use riser_learner::{Event, LearnerConfig, Metrics, Outcome, Trainer, recovery::Recovery};
use riser_rollout_worker::Sampler;
use riser_store::Contents;
use std::sync::{Arc, Mutex};

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Witness {
    trace: Trace,
    pacing: Pacing,
    total_batches: u64,
    /// What each version is in lockstep.
    expected: Option<Versions>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Newest version that the learner said is on the disk.
    durable: u64,
    is_over: bool,
    /// Whether a coordinator has it in its log.
    coordinator_knows: bool,
}

impl Witness {
    pub(crate) fn new(scenario: &Scenario, trace: &Trace) -> Arc<Self> {
        let pacing = scenario.pacing();
        let expected = matches!(pacing, Pacing::Lockstep(_)).then(|| scenario.versions());
        let total_batches = scenario.total_batches;
        Arc::new(Self { trace: trace.clone(), pacing, total_batches, expected, seen: Mutex::default() })
    }

    /// A learner goes on from what was found.
    pub(crate) fn recovered(&self, recovery: &Recovery) {
        let found = recovery.checkpoint.as_ref();
        let version = found.map_or(0, |checkpoint| checkpoint.manifest.version.0);
        self.trace.note("recover", version);
        let durable = self.seen.lock().unwrap().durable;
        if version < durable {
            self.trace.violation(format_args!("version {durable} was on the disk, recovered was version {version}"));
        }
        if let Some(checkpoint) = found
            && let Some(expected) = &self.expected
            && checkpoint.manifest.policy != expected[version as usize].0
        {
            self.trace.violation(format_args!("the checkpoint of version {version} is another policy"));
        }
        self.seen.lock().unwrap().is_over |= version == self.total_batches;
    }

    /// The learner tells of something.
    pub(crate) fn saw(&self, event: &Event) {
        if let Event::Checkpoint { version, .. } = event {
            let mut seen = self.seen.lock().unwrap();
            seen.durable = seen.durable.max(version.0);
        }
    }

    /// A learner has ended because everything is trained.
    pub(crate) fn finished(&self, outcome: Outcome) {
        if let Some(expected) = &self.expected
            && expected.last().map(|(policy, _)| *policy) != Some(outcome.digest)
        {
            self.trace.violation(format_args!("the run ended with another policy: {outcome:?}"));
        }
        self.seen.lock().unwrap().is_over = true;
    }

    /// A role has written something into its log.
    pub(crate) fn logged(&self, event: &RunEvent) {
        self.seen.lock().unwrap().coordinator_knows |= matches!(event, RunEvent::RunOver { .. });
    }

    /// Whether a coordinator that is started finds in its log that the run is over.
    pub(crate) fn coordinator_knows_the_end(&self) -> bool {
        self.seen.lock().unwrap().coordinator_knows
    }

    /// Whether everything is trained and kept.
    pub(crate) fn is_over(&self) -> bool {
        self.seen.lock().unwrap().is_over
    }
}

/// A trainer whose batches are looked at.
pub(crate) struct WitnessTrainer {
    trainer: HashTrainer,
    witness: Arc<Witness>,
    consumed: GroupSet,
}

impl WitnessTrainer {
    pub(crate) fn new(trainer: HashTrainer, witness: Arc<Witness>, config: &LearnerConfig) -> Self {
        Self { trainer, witness, consumed: config.consumed.clone() }
    }

    fn look_at(&mut self, version: PolicyVersion, batch: &[RolloutGroup]) {
        let Witness { trace, pacing, .. } = &*self.witness;
        if batch.len() as u64 != pacing.groups_per_batch() {
            trace.violation(format_args!("the batch of version {version} has {} groups", batch.len()));
        }
        let oldest = version.0.saturating_sub(pacing.max_staleness().into());
        for group in batch {
            if !self.consumed.insert(group.id) {
                trace.violation(format_args!("group {} is trained on a second time", group.id));
            }
            if !(oldest..=version.0).contains(&group.version.0) {
                let (id, sampled) = (group.id, group.version);
                trace.violation(format_args!("group {id} of version {sampled} is trained on at version {version}"));
            }
        }
    }
}

impl Trainer for WitnessTrainer {
    fn step(&mut self, version: PolicyVersion, batch: &[RolloutGroup]) -> Result<Metrics, Failure> {
        self.look_at(version, batch);
        let metrics = self.trainer.step(version, batch)?;
        if let Some(expected) = &self.witness.expected {
            let next = version.next();
            let digest = self.trainer.snapshot(next)?.digest();
            if expected.get(next.0 as usize).map(|(policy, _)| *policy) != Some(digest) {
                self.witness.trace.violation(format_args!("version {next} is another policy than undisturbed"));
            }
        }
        Ok(metrics)
    }

    fn snapshot(&self, version: PolicyVersion) -> Result<PolicySnapshot, Failure> {
        self.trainer.snapshot(version)
    }

    fn evaluate(&mut self, version: PolicyVersion) -> Result<Metrics, Failure> {
        self.trainer.evaluate(version)
    }

    fn state(&self) -> Result<Contents, Failure> {
        self.trainer.state()
    }
}

/// A sampler whose policies are looked at.
pub(crate) struct WitnessSampler {
    sampler: HashSampler,
    witness: Arc<Witness>,
}

impl WitnessSampler {
    pub(crate) fn new(sampler: HashSampler, witness: Arc<Witness>) -> Self {
        Self { sampler, witness }
    }
}

impl Sampler for WitnessSampler {
    fn load(&mut self, snapshot: &PolicySnapshot) -> Result<(), Failure> {
        if let Some(expected) = &self.witness.expected {
            let version = snapshot.version();
            if expected.get(version.0 as usize).map(|(_, served)| *served) != Some(snapshot.digest()) {
                self.witness.trace.violation(format_args!("a worker has another policy as version {version}"));
            }
        }
        self.sampler.load(snapshot)
    }

    fn sample(&mut self, version: PolicyVersion, requests: &[SampleRequest]) -> Result<Vec<RolloutGroup>, Failure> {
        self.sampler.sample(version, requests)
    }
}
