//! Whoever watches a run and says at once when a promise is broken, knowing what an undisturbed run would have computed.

use super::{
    changes::{Change, NEXT},
    host::Host,
    relays::{Relays, Tree},
    trace::Trace,
};
use crate::{
    hash_policy::{self, HashSampler, HashTrainer},
    scenario::{Scenario, Versions},
};
use riser_core::{
    digest::Digest,
    group::RolloutGroup,
    group_set::GroupSet,
    ids::{Incarnation, PolicyVersion},
    lease::SampleRequest,
    pacing::Pacing,
    snapshot::{PolicySnapshot, TensorDtype},
};
use riser_learner::{Event, LearnerConfig, Metrics, Outcome, Trainer, recovery::Recovery};
use riser_proto::{egress::Egress, join::Welcome};
use riser_rollout_worker::Sampler;
use riser_store::Contents;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Numbers that workers get from one start of the coordinator to the next.
pub(crate) const WORKERS_PER_START: u64 = 1000;

pub(crate) struct Witness {
    trace: Trace,
    pacing: Pacing,
    served_dtype: TensorDtype,
    /// What each version is in lockstep, without a change of catalog and with the one that is asked for.
    expected: Option<Versions>,
    changed: Option<Versions>,
    /// First batch of that change.
    change: Option<u64>,
    relays: Option<Relays>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Newest version that a learner said is on its disk.
    durable: BTreeMap<Host, u64>,
    /// Newest version that a learner said is in the store.
    stored: u64,
    /// Whatever was ever served as each version.
    served: BTreeMap<PolicyVersion, BTreeSet<Digest>>,
    /// The number of the newest learner of each host, until it is replaced.
    learners: BTreeMap<Host, Incarnation>,
    starts: u64,
    /// All numbers of learners, and whether one was given twice, by disks that did not know of each other.
    numbers: BTreeSet<Incarnation>,
    repeats: bool,
    tree: Tree,
    /// Whether the change is part of the run, once the operator was told.
    is_changed: Option<bool>,
    is_over: bool,
}

impl Witness {
    pub(crate) fn new(scenario: &Scenario, relays: Option<Relays>, change: Option<Change>, trace: &Trace) -> Arc<Self> {
        let pacing = scenario.pacing();
        let expected = matches!(pacing, Pacing::Lockstep(_)).then(|| scenario.versions());
        let (served_dtype, seen) = (scenario.served_dtype, Mutex::default());
        let change = change.map(|change| change.first_batch);
        let changed = change
            .filter(|_| expected.is_some())
            .map(|first| scenario.versions_with(|batch| if batch >= first { NEXT } else { 0 }));
        Arc::new(Self { trace: trace.clone(), pacing, served_dtype, expected, changed, change, relays, seen })
    }

    /// The operator was told whether the catalog changes.
    pub(crate) fn answered(&self, is_changed: bool) {
        self.seen().is_changed = Some(is_changed);
    }

    /// Whether the change may be part of the run as far as it was told, and whether it may not be.
    fn may_be_changed(&self) -> (bool, bool) {
        let told = self.seen().is_changed;
        (told != Some(false), told != Some(true))
    }

    /// Whether a policy is what the version is in an undisturbed run, with or without the change: a learner that went back may
    /// have trained without it what it trains with it now.
    fn fits(&self, version: PolicyVersion, policy: Digest, of: impl Fn(&(Digest, Digest)) -> Digest) -> bool {
        self.fits_if((true, true), version, policy, of)
    }

    fn fits_if(
        &self,
        (with, without): (bool, bool),
        version: PolicyVersion,
        policy: Digest,
        of: impl Fn(&(Digest, Digest)) -> Digest,
    ) -> bool {
        let Some(expected) = &self.expected else { return true };
        let is = |versions: &Versions| versions.get(version.0 as usize).map(&of) == Some(policy);
        let Some(changed) = &self.changed else { return is(expected) };
        (with && is(changed)) || (without && is(expected))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Something happened to these hosts.
    pub(crate) fn disturbed(&self, hosts: &[Host]) {
        self.seen().tree.disturbed(hosts);
    }

    /// A learner's disk is gone.
    pub(crate) fn lost_disk(&self, host: Host) {
        self.seen().durable.remove(&host);
    }

    /// Another learner has committed the newest version of this one, whose own no longer counts.
    pub(crate) fn diverged(&self, host: Host) {
        self.seen().durable.insert(host, 0);
    }

    /// Whether the number of a learner tells it from all others.
    pub(crate) fn numbers_are_unique(&self) -> bool {
        !self.seen().repeats
    }

    /// A learner goes on from what was found.
    pub(crate) fn recovered(&self, host: Host, recovery: &Recovery) {
        let found = recovery.checkpoint.as_ref();
        let version = found.map_or(0, |checkpoint| checkpoint.manifest.version.0);
        self.trace.note("recover", format_args!("{host} {version}"));
        let (durable, stored) = {
            let seen = self.seen();
            (seen.durable.get(&host).copied(), seen.stored)
        };
        // A disk that has nothing leaves only the store to go on from; one that has something does where the store is away.
        let least = durable.unwrap_or(if found.is_none() || recovery.restored { stored } else { 0 });
        if version < least {
            self.trace.violation(format_args!("version {least} was kept, {host} recovered version {version}"));
        }
        if recovery.restored {
            self.trace.note("restored", version);
            let mut seen = self.seen();
            let durable = seen.durable.entry(host).or_default();
            *durable = version.max(*durable);
        }
        if let Some(checkpoint) = found
            && !self.fits(PolicyVersion(version), checkpoint.manifest.policy, |(policy, _)| *policy)
        {
            self.trace.violation(format_args!("the checkpoint of version {version} is another policy"));
        }
    }

    /// A learner begins; the answer is a number for this start alone.
    pub(crate) fn began(&self, host: Host, number: Incarnation) -> u64 {
        let mut seen = self.seen();
        seen.learners.insert(host, number);
        seen.repeats |= !seen.numbers.insert(number);
        seen.starts += 1;
        seen.starts
    }

    /// A learner was refused; whether another one has taken its place.
    pub(crate) fn refused(&self, host: Host) -> bool {
        let mut seen = self.seen();
        let own = seen.learners.get(&host).copied();
        let is_replaced = seen.learners.iter().any(|(&other, &number)| other != host && Some(number) > own);
        if is_replaced {
            seen.learners.remove(&host);
        }
        is_replaced
    }

    /// A learner tells of something.
    pub(crate) fn saw(&self, host: Host, event: &Event) {
        let mut seen = self.seen();
        match event {
            Event::Checkpoint { version, .. } => {
                let durable = seen.durable.entry(host).or_default();
                *durable = version.0.max(*durable);
            }
            Event::Stored { version } => seen.stored = version.0.max(seen.stored),
            _ => {}
        }
    }

    /// A learner has ended because everything is trained.
    pub(crate) fn finished(&self, outcome: Outcome) {
        if !self.fits_if(self.may_be_changed(), outcome.version, outcome.digest, |(policy, _)| *policy) {
            self.trace.violation(format_args!("the run ended with another policy: {outcome:?}"));
        }
        self.seen().is_over = true;
    }

    /// A worker was taken up.
    pub(crate) fn joined(&self, host: Host, welcome: &Welcome) {
        let Welcome { worker, parent, .. } = welcome;
        self.trace.note("join", format_args!("{host} {worker} {parent:?}"));
        match &self.relays {
            Some(relays) => {
                if parent.is_some() {
                    self.trace.note("below a relay", host);
                }
                self.seen().tree.joined(relays, host, welcome, WORKERS_PER_START, &self.trace);
            }
            None if parent.is_some() => self.trace.violation("nobody hands policies on"),
            None => {}
        }
    }

    /// What can only be judged in hindsight.
    pub(crate) fn examine(&self) {
        if let Some(relays) = &self.relays {
            self.seen().tree.examine(relays, &self.trace);
        }
    }

    /// Whom some learner sends policies to.
    pub(crate) fn fed(&self, egress: &Egress) {
        self.seen().tree.fed(egress, &self.trace);
    }

    /// Whether everything is trained and kept.
    pub(crate) fn is_over(&self) -> bool {
        self.seen().is_over
    }

    fn serves(&self, policy: &PolicySnapshot) -> Result<(), Failure> {
        let served = policy.served_as(self.served_dtype)?;
        self.seen().served.entry(policy.version()).or_default().insert(served.digest());
        Ok(())
    }

    fn has_served(&self, version: PolicyVersion, digest: Digest) -> bool {
        self.seen().served.get(&version).is_some_and(|served| served.contains(&digest))
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
        let (own, next) = (hash_policy::tree().digest(), hash_policy::tree_of(NEXT).digest());
        let is_next = batch.first().is_some_and(|group| group.catalog == next);
        let catalog = if is_next { next } else { own };
        if batch.iter().any(|group| group.catalog != catalog) {
            trace.violation(format_args!("the batch of version {version} mixes catalogs"));
        }
        match self.witness.change {
            Some(first) if version.0 >= first => {
                let (with, without) = self.witness.may_be_changed();
                if !(is_next && with || !is_next && without) {
                    trace.violation(format_args!("the batch of version {version} is not as the operator was told"));
                }
            }
            _ if is_next => trace.violation(format_args!("the batch of version {version} has a catalog to come")),
            _ => {}
        }
        let oldest = version.0.saturating_sub(pacing.max_staleness().into());
        for group in batch {
            if !self.consumed.insert(group.id) {
                trace.violation(format_args!("group {} is trained on a second time", group.id));
            }
            let (id, sampled) = (group.id, group.version);
            if !(oldest..=version.0).contains(&sampled.0) {
                trace.violation(format_args!("group {id} of version {sampled} is trained on at version {version}"));
            }
            if !self.witness.has_served(sampled, group.policy) {
                trace.violation(format_args!("group {id} is of a version {sampled} that nobody ever served"));
            }
        }
    }
}

impl Trainer for WitnessTrainer {
    fn step(&mut self, version: PolicyVersion, batch: &[RolloutGroup]) -> Result<Metrics, Failure> {
        self.look_at(version, batch);
        let metrics = self.trainer.step(version, batch)?;
        let next = version.next();
        let digest = self.trainer.snapshot(next)?.digest();
        if !self.witness.fits(next, digest, |(policy, _)| *policy) {
            self.witness.trace.violation(format_args!("version {next} is another policy than undisturbed"));
        }
        Ok(metrics)
    }

    fn snapshot(&self, version: PolicyVersion) -> Result<PolicySnapshot, Failure> {
        let policy = self.trainer.snapshot(version)?;
        self.witness.serves(&policy)?;
        Ok(policy)
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
        let (version, digest) = (snapshot.version(), snapshot.digest());
        if !self.witness.has_served(version, digest) {
            self.witness.trace.violation(format_args!("a worker has a version {version} that nobody ever served"));
        }
        if !self.witness.fits(version, digest, |(_, served)| *served) {
            self.witness.trace.violation(format_args!("a worker has another policy as version {version}"));
        }
        self.sampler.load(snapshot)
    }

    fn sample(&mut self, version: PolicyVersion, requests: &[SampleRequest]) -> Result<Vec<RolloutGroup>, Failure> {
        self.sampler.sample(version, requests)
    }
}
