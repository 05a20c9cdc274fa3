//! Who samples what, and when: a pure state machine for lockstep runs.
//!
//! ```text
//!             ask                    complete
//! pending -----------> in flight ----------------> delivered        (all three forgotten once the batch is trained)
//!    ^                     |
//!    +---------------------+
//!      expire or release, and the next holder gets a higher epoch
//! ```
//!
//! A lease is a fixed run of at most `groups_per_lease` groups of one batch, so its number says all about it. Batches
//! `v .. v + lag` are open while the learner is at version `v` ([`Lockstep::open_batches`]); opening a batch makes its
//! leases pending. Memory is bounded by the open batches, whatever workers do.
//!
//! Time comes in as an argument, and every answer to a worker goes out as an [`Effect`].

mod message;

pub use message::{AskId, Effect, Event, Grant, ScheduleError};

use crate::Counts;
use riser_core::{
    ids::{PolicyVersion, WorkerId},
    lease::{LeaseEpoch, LeaseId},
    lockstep::Lockstep,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
    time::Duration,
};

/// What the schedule needs to know about the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Batches, versions and the lag between them.
    pub lockstep: Lockstep,
    /// Most groups of a lease. Groups of a lease are computed together, so this is part of what a run computes.
    pub groups_per_lease: NonZeroU32,
    /// Batches of the whole run.
    pub total_batches: u64,
    /// Version the learner starts at: the number of batches that were trained before the run was interrupted.
    pub start_version: PolicyVersion,
    /// How long a lease lasts without a renewal.
    pub lease_timeout: Duration,
    /// How long a lease lasts with renewals: the end of a worker that is alive but stuck.
    pub lease_lifetime: Duration,
    /// Questions for work that may wait at one time.
    pub max_waiting: usize,
}

/// The state machine. See the module documentation.
#[derive(Debug, Clone)]
pub struct Schedule {
    config: ScheduleConfig,
    version: PolicyVersion,
    /// First batch that has not been opened yet.
    next_batch: u64,
    pending: BTreeSet<LeaseId>,
    in_flight: BTreeMap<LeaseId, InFlight>,
    delivered: BTreeSet<LeaseId>,
    /// Times each open lease has been handed out, counted from `fence`.
    epochs: BTreeMap<LeaseId, LeaseEpoch>,
    /// Epochs up to here belong to holders from before the learner was started.
    fence: LeaseEpoch,
    /// Largest epoch of any lease.
    highest: LeaseEpoch,
    waiting: VecDeque<Waiting>,
    counts: Counts,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    epoch: LeaseEpoch,
    worker: WorkerId,
    /// End without a further renewal.
    deadline: Duration,
    /// End whatever happens.
    end: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    ask: AskId,
    worker: WorkerId,
    until: Duration,
}

impl Schedule {
    /// The schedule of a run that stands at `config.start_version`.
    pub fn new(config: ScheduleConfig) -> Self {
        let mut schedule = Self {
            config,
            version: config.start_version,
            next_batch: config.start_version.0,
            pending: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            delivered: BTreeSet::new(),
            epochs: BTreeMap::new(),
            fence: LeaseEpoch(0),
            highest: LeaseEpoch(0),
            waiting: VecDeque::new(),
            counts: Counts::default(),
        };
        schedule.open_batches();
        schedule
    }

    /// Takes one event at time `now`, which never runs backwards, and appends to `effects` whom to answer.
    ///
    /// # Errors
    /// [`ScheduleError`] if the event is refused; time has passed all the same, so there may be effects.
    pub fn apply(&mut self, event: Event, now: Duration, effects: &mut Vec<Effect>) -> Result<(), ScheduleError> {
        self.expire(now);
        let accepted = self.accept(event, now);
        self.answer(now, effects);
        accepted
    }

    /// When [`Event::Tick`] is due at the latest, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        let leases = self.in_flight.values().map(|lease| lease.deadline);
        leases.chain(self.waiting.iter().map(|waiting| waiting.until)).min()
    }

    /// The newest version that workers can sample with.
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// Whether every batch has been trained.
    pub fn is_done(&self) -> bool {
        self.version.0 >= self.config.total_batches
    }

    /// Leases that a worker holds right now.
    pub fn num_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What became of all leases so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn accept(&mut self, event: Event, now: Duration) -> Result<(), ScheduleError> {
        match event {
            Event::Ask { ask, worker, until } => {
                let limit = self.config.max_waiting;
                if self.waiting.len() >= limit {
                    return Err(ScheduleError::Crowded { limit });
                }
                self.waiting.push_back(Waiting { ask, worker, until });
            }
            Event::Renew { lease, epoch } => {
                let timeout = self.config.lease_timeout;
                let held = self.held(lease, epoch)?;
                held.deadline = (now + timeout).min(held.end);
            }
            Event::Complete { lease, epoch } => {
                self.held(lease, epoch)?;
                self.in_flight.remove(&lease);
                self.delivered.insert(lease);
                self.counts.completed += 1;
            }
            Event::Release { lease, epoch } => {
                self.held(lease, epoch)?;
                self.in_flight.remove(&lease);
                self.pending.insert(lease);
                self.counts.released += 1;
            }
            Event::Advance { version } => self.advance(version)?,
            Event::Register { version } => self.register(version)?,
            Event::Tick => {}
        }
        Ok(())
    }

    /// The lease, if `epoch` is its present holder's.
    fn held(&mut self, lease: LeaseId, epoch: LeaseEpoch) -> Result<&mut InFlight, ScheduleError> {
        match self.in_flight.get_mut(&lease).filter(|held| held.epoch == epoch) {
            Some(held) => Ok(held),
            None => {
                self.counts.refused += 1;
                Err(ScheduleError::NotHeld { lease, epoch })
            }
        }
    }

    fn advance(&mut self, version: PolicyVersion) -> Result<(), ScheduleError> {
        if version < self.version {
            return Err(ScheduleError::Backwards { got: version, current: self.version });
        }
        if version.0 > self.config.total_batches {
            return Err(ScheduleError::BeyondEnd { got: version, last: self.config.total_batches });
        }
        self.version = version;
        // Leases are numbered by batch, so everything below the first lease of the first open batch is trained.
        let open = LeaseId(version.0 * self.leases_per_batch());
        self.pending = self.pending.split_off(&open);
        self.delivered = self.delivered.split_off(&open);
        self.epochs = self.epochs.split_off(&open);
        let still_out = self.in_flight.split_off(&open);
        self.counts.overtaken += self.in_flight.len() as u64;
        self.in_flight = still_out;
        self.next_batch = self.next_batch.max(version.0);
        self.open_batches();
        Ok(())
    }

    fn register(&mut self, version: PolicyVersion) -> Result<(), ScheduleError> {
        if version.0 > self.config.total_batches {
            return Err(ScheduleError::BeyondEnd { got: version, last: self.config.total_batches });
        }
        self.counts.fenced += self.in_flight.len() as u64;
        self.fence = self.highest;
        self.in_flight.clear();
        self.pending.clear();
        self.delivered.clear();
        self.epochs.clear();
        (self.version, self.next_batch) = (version, version.0);
        self.open_batches();
        Ok(())
    }

    fn open_batches(&mut self) {
        let end = self.config.lockstep.open_batches(self.version).end.min(self.config.total_batches);
        let per_batch = self.leases_per_batch();
        while self.next_batch < end {
            let first = self.next_batch * per_batch;
            self.pending.extend((first..first + per_batch).map(LeaseId));
            self.next_batch += 1;
        }
    }

    fn expire(&mut self, now: Duration) {
        let overdue: Vec<LeaseId> =
            self.in_flight.iter().filter(|(_, held)| held.deadline <= now).map(|(&lease, _)| lease).collect();
        for lease in overdue {
            if let Some(held) = self.in_flight.remove(&lease) {
                tracing::warn!(lease = lease.0, epoch = held.epoch.0, worker = held.worker.0, "lease expired");
            }
            self.pending.insert(lease);
            self.counts.expired += 1;
        }
    }

    /// Answers those who wait: work in the order of asking, the end of the run, or the end of their patience.
    fn answer(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        while let Some(&Waiting { ask, worker, .. }) = self.waiting.front() {
            if self.is_done() {
                effects.push(Effect::Done { ask });
            } else if let Some(lease) = self.pending.pop_first() {
                let grant = self.grant(lease, worker, now);
                effects.push(Effect::Grant { ask, grant });
            } else {
                break;
            }
            self.waiting.pop_front();
        }
        self.waiting.retain(|&Waiting { ask, until, .. }| {
            let patient = until > now;
            if !patient {
                effects.push(Effect::Wait { ask });
            }
            patient
        });
    }

    fn grant(&mut self, lease: LeaseId, worker: WorkerId, now: Duration) -> Grant {
        let epoch = self.epochs.entry(lease).or_insert(self.fence);
        epoch.0 += 1;
        let epoch = *epoch;
        self.highest = self.highest.max(epoch);
        let end = now + self.config.lease_lifetime;
        let deadline = (now + self.config.lease_timeout).min(end);
        self.in_flight.insert(lease, InFlight { epoch, worker, deadline, end });
        self.counts.granted += 1;
        let batch = lease.0 / self.leases_per_batch();
        let version = self.config.lockstep.version_of(batch);
        Grant { lease, epoch, version, groups: self.groups_of(lease) }
    }

    fn groups_of(&self, lease: LeaseId) -> std::ops::Range<u64> {
        let per_batch = self.leases_per_batch();
        let groups = self.config.lockstep.groups_of(lease.0 / per_batch);
        let size = u64::from(self.config.groups_per_lease.get());
        let start = groups.start + (lease.0 % per_batch) * size;
        start..groups.end.min(start + size)
    }

    fn leases_per_batch(&self) -> u64 {
        let groups_per_batch = self.config.lockstep.groups_per_batch.get();
        u64::from(groups_per_batch.div_ceil(self.config.groups_per_lease.get()))
    }
}

#[cfg(test)]
mod tests;
