//! Who samples what, and when: a pure state machine for both scheduling modes.
//!
//! ```text
//!             ask                    complete
//! pending -----------> in flight ----------------> delivered        (forgotten once the learner reports the groups)
//!    ^                     |
//!    +---------------------+
//!      expire or release, and the next holder gets a higher epoch
//! ```
//!
//! A lease is a fixed run of at most `groups_per_lease` groups within one stretch of `groups_per_batch`, so its number says
//! all about it. Which stretches are open, and which version a lease names, is [`Pacing`]'s to say; opening a stretch
//! makes its leases pending. Memory is bounded by what is open, whatever workers do.
//!
//! **Where the state comes from.** The learner reports its version and the groups it has received, again and again. The
//! first report is the beginning: before it nothing is granted. So a coordinator needs no journal. What a restarted one
//! cannot know is who holds what: a holder that renews or completes a lease of an earlier incarnation is recognised
//! ([`LeaseChange::Adopted`]) if the lease is still to be had; if it has been granted anew the old holder hears that it
//! holds nothing, goes on all the same, and whichever copy reaches the learner first counts. Epochs never repeat because
//! their high part is the coordinator's incarnation; only that number has to be kept, once per start.
//!
//! **Catalogs.** Every report says which catalog each batch is made with, and a stretch is opened by a report, so a lease
//! names the catalog of its batch. Batches whose catalog is not here yet ([`Event::Catalogs`]) stay closed until it is.
//!
//! **Fast and slow workers.** Whoever asks gets the next lease, so the fast ones take more. When nothing is pending and
//! one lease is out for much longer than usual, a second worker that would be idle gets it too; the first to complete
//! wins. In lockstep both sample the same bits; in bounded mode the second samples with the newest version and the
//! learner counts one of them.
//!
//! Time comes in as an argument, and every answer to a worker goes out as an [`Effect`].

mod message;
mod record;
mod typical;

pub use message::{AskId, Effect, Event, Grant, ScheduleError};

use crate::Counts;
use riser_core::{
    catalog::plan::{CatalogPlan, Era},
    digest::Digest,
    ids::{Incarnation, PolicyVersion, WorkerId},
    learner_report::LearnerReport,
    lease::{Claim, LeaseEpoch, LeaseId},
    pacing::Pacing,
    run_event::{LeaseChange, LeaseRecord},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
    time::Duration,
};
use typical::Typical;

/// A lease that is out for so many times the usual duration is given to a second worker.
const STRAGGLER: u32 = 2;

/// A lease that is out for less is not worth a second worker.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// What the schedule needs to know about the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Batches, versions and what lies between them.
    pub pacing: Pacing,
    /// Most groups of a lease. Groups of a lease are computed together, so this is part of what a run computes.
    pub groups_per_lease: NonZeroU32,
    /// Batches of the whole run.
    pub total_batches: u64,
    /// Which start of the coordinator this is.
    pub incarnation: Incarnation,
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
    /// The newest report of the learner.
    learner: Option<LearnerReport>,
    /// First stretch that has not been opened yet.
    next_stretch: u64,
    pending: BTreeSet<LeaseId>,
    /// Every open holding; a lease has two if it was given to a second worker.
    in_flight: BTreeMap<LeaseId, Vec<Holder>>,
    /// Completed leases whose groups the learner has not reported yet, and whether it has reported since.
    delivered: BTreeMap<LeaseId, bool>,
    /// Catalogs that can be handed out; the run's own always can.
    catalogs: BTreeSet<Digest>,
    /// Grants of this incarnation.
    grants: u64,
    waiting: VecDeque<Waiting>,
    typical: Typical,
    counts: Counts,
    records: Vec<LeaseRecord>,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    claim: Claim,
    since: Duration,
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
    /// The schedule of a run whose learner has not reported yet.
    pub fn new(config: ScheduleConfig) -> Self {
        Self {
            config,
            learner: None,
            next_stretch: 0,
            pending: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            delivered: BTreeMap::new(),
            catalogs: BTreeSet::new(),
            grants: 0,
            waiting: VecDeque::new(),
            typical: Typical::default(),
            counts: Counts::default(),
            records: vec![],
        }
    }

    /// Takes one event at time `now`, which never runs backwards, and appends to `effects` whom to answer.
    ///
    /// # Errors
    /// [`ScheduleError`] if the event is refused; time has passed all the same, so there may be effects.
    pub fn apply(&mut self, event: Event, now: Duration, effects: &mut Vec<Effect>) -> Result<(), ScheduleError> {
        self.expire(now);
        let accepted = self.accept(event, now);
        self.open();
        self.answer(now, effects);
        accepted
    }

    /// When [`Event::Tick`] is due at the latest, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        let leases = self.in_flight.values().flatten().map(|holder| holder.deadline);
        let waits = self.waiting.iter().map(|waiting| waiting.until);
        let doublings = self.waiting.iter().filter_map(|waiting| self.straggler(waiting.worker).map(|(at, _)| at));
        leases.chain(waits).chain(doublings).min()
    }

    /// The newest version that workers can sample with; `None` before the learner's first report.
    pub fn version(&self) -> Option<PolicyVersion> {
        self.learner.as_ref().map(|report| report.version)
    }

    /// Whether every batch has been trained.
    pub fn is_done(&self) -> bool {
        self.version().is_some_and(|version| version.0 >= self.config.total_batches)
    }

    /// Holdings of leases right now.
    pub fn num_in_flight(&self) -> usize {
        self.in_flight.values().map(Vec::len).sum()
    }

    /// Every open holding.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.in_flight.values().flatten().map(|holder| &holder.claim)
    }

    /// Groups that may be leased now and are not.
    pub fn num_admissible(&self) -> u64 {
        let sizes = self.pending.iter().map(|lease| {
            let groups = self.groups_of(*lease);
            groups.end - groups.start
        });
        sizes.sum()
    }

    /// Which catalog each batch is made with; `None` before the learner's first report.
    pub fn catalogs(&self) -> Option<&CatalogPlan> {
        self.learner.as_ref().map(|report| &report.catalogs)
    }

    /// Questions for work that wait for an answer.
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Steps of the whole run.
    pub fn total_batches(&self) -> u64 {
        self.config.total_batches
    }

    /// What became of all leases so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What happened to leases since the last call.
    pub fn take_records(&mut self) -> Vec<LeaseRecord> {
        std::mem::take(&mut self.records)
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
            Event::Renew(claim) => {
                let timeout = self.config.lease_timeout;
                let holder = self.holder(claim, now)?;
                holder.deadline = (now + timeout).min(holder.end);
            }
            Event::Complete(claim) => {
                let since = self.holder(claim, now)?.since;
                self.typical.add(now - since);
                for holder in self.in_flight.remove(&claim.lease).into_iter().flatten() {
                    let winner = holder.claim.epoch == claim.epoch;
                    self.record(&holder.claim, if winner { LeaseChange::Completed } else { LeaseChange::Outrun });
                }
                self.delivered.insert(claim.lease, false);
            }
            Event::Release(claim) => {
                self.holder(claim, now)?;
                self.drop_holders(|holder| (holder.claim.epoch == claim.epoch).then_some(LeaseChange::Released));
            }
            Event::Report(report) => self.report(report)?,
            Event::Catalogs(catalogs) => self.catalogs = catalogs,
            Event::Tick => {}
        }
        Ok(())
    }

    /// The holding that `claim` is about; a holding of an earlier coordinator is recognised if nobody else has the lease.
    fn holder(&mut self, claim: Claim, now: Duration) -> Result<&mut Holder, ScheduleError> {
        let Claim { lease, epoch, version, .. } = claim;
        let Some(newest) = self.version() else { return Err(ScheduleError::Unready) };
        // A version that the learner has not reached is one from before it was started again, and would be waited for.
        let is_ours = version <= newest;
        if epoch.coordinator() < self.config.incarnation && is_ours && self.pending.remove(&lease) {
            self.hold(claim, now, LeaseChange::Adopted);
        }
        let holders = self.in_flight.get_mut(&lease).map(Vec::as_mut_slice).unwrap_or_default();
        match holders.iter_mut().find(|holder| holder.claim.epoch == epoch) {
            Some(holder) => Ok(holder),
            None => {
                self.counts.refused += 1;
                Err(ScheduleError::NotHeld { lease, epoch })
            }
        }
    }

    fn report(&mut self, report: LearnerReport) -> Result<(), ScheduleError> {
        let last = self.config.total_batches;
        if report.version.0 > last {
            return Err(ScheduleError::BeyondEnd { got: report.version, last });
        }
        if self.is_done() && report.version.0 == last {
            // Whoever says so is right.
            return Ok(());
        }
        if let Some(known) = &self.learner {
            if report.learner < known.learner {
                return Err(ScheduleError::Superseded { got: report.learner, current: known.learner });
            }
            let same = report.learner == known.learner;
            if same && report.start != known.start {
                return Err(ScheduleError::Twin { number: report.learner });
            }
            if same && report.version < known.version {
                return Err(ScheduleError::Backwards { got: report.version, current: known.version });
            }
            if same && report.taken < known.taken {
                // A call that was repeated and has been overtaken by a later one.
                return Ok(());
            }
            let opened = self.next_stretch;
            let keeps = |first: u64| first >= opened;
            let news = report.catalogs.eras().iter().skip(known.catalogs.eras().len());
            if same && !(report.catalogs.continues(&known.catalogs) && news.map(|era| era.first_batch).all(keeps)) {
                return Err(ScheduleError::Catalogs { learner: report.learner, opened });
            }
            if !same {
                self.rewind(&report);
            }
        }
        self.settle(&report);
        if self.learner.is_none() {
            self.next_stretch = report.received.first_gap() / self.config.pacing.groups_per_batch();
        }
        self.learner = Some(report);
        Ok(())
    }

    /// The learner was started again: what it has not received is to be had again, what is sampled with versions that it
    /// has not reached is not wanted.
    fn rewind(&mut self, report: &LearnerReport) {
        self.delivered.clear();
        self.drop_holders(|holder| (holder.claim.version > report.version).then_some(LeaseChange::Rewound));
        // The open stretches are opened anew, without those that are still out.
        self.pending.clear();
        self.learner = None;
    }

    /// Forgets the leases of which the learner has every group, and offers again those that it should have and has not.
    fn settle(&mut self, report: &LearnerReport) {
        let mut received = BTreeSet::new();
        let known = self.pending.iter().chain(self.in_flight.keys()).chain(self.delivered.keys());
        received.extend(known.filter(|lease| report.received.contains_all(self.groups_of(**lease))));
        for lease in &received {
            self.pending.remove(lease);
            self.delivered.remove(lease);
            for holder in self.in_flight.remove(lease).into_iter().flatten() {
                self.record(&holder.claim, LeaseChange::Overtaken);
            }
        }
        // This report may have been made before the lease was completed; the next one cannot have been.
        for (lease, reported) in std::mem::take(&mut self.delivered) {
            if reported {
                tracing::warn!(lease = lease.0, "completed lease never reached the learner");
                self.counts.missing += 1;
                self.pending.insert(lease);
            } else {
                self.delivered.insert(lease, true);
            }
        }
    }

    /// Opens the stretches that the pacing admits.
    fn open(&mut self) {
        let Some(report) = &self.learner else { return };
        let oldest = self.in_flight.values().flatten().map(|holder| holder.claim.version).min();
        let end = self.config.pacing.open_end(report.version, oldest).min(self.config.total_batches);
        let end = end.min(self.first_without_catalog(report));
        let per_stretch = self.leases_per_stretch();
        while self.next_stretch < end {
            let first = self.next_stretch * per_stretch;
            for lease in (first..first + per_stretch).map(LeaseId) {
                if !report.received.contains_all(self.groups_of(lease)) && !self.in_flight.contains_key(&lease) {
                    self.pending.insert(lease);
                }
            }
            self.next_stretch += 1;
        }
    }

    /// The first stretch whose catalog is not here yet.
    fn first_without_catalog(&self, report: &LearnerReport) -> u64 {
        let is_here = |era: &Era| era.folder.is_none() || self.catalogs.contains(&era.catalog);
        let eras = report.catalogs.eras_from(report.version.0);
        eras.iter().find(|era| !is_here(era)).map_or(u64::MAX, |era| era.first_batch)
    }

    fn expire(&mut self, now: Duration) {
        self.drop_holders(|holder| (holder.deadline <= now).then_some(LeaseChange::Expired));
    }

    /// Ends the holdings that `why` gives a reason for; a lease that nobody holds any more is pending again.
    fn drop_holders(&mut self, why: impl Fn(&Holder) -> Option<LeaseChange>) {
        let mut ended = vec![];
        let open_leases = self.next_stretch * self.leases_per_stretch();
        let pending = &mut self.pending;
        self.in_flight.retain(|&lease, holders| {
            holders.retain(|holder| match why(holder) {
                Some(change) => {
                    ended.push((holder.claim, change));
                    false
                }
                None => true,
            });
            // After a rewind there may be holdings beyond what is open; those wait for their turn.
            if holders.is_empty() && lease.0 < open_leases {
                pending.insert(lease);
            }
            !holders.is_empty()
        });
        for (claim, change) in ended {
            if change == LeaseChange::Expired {
                tracing::warn!(lease = claim.lease.0, epoch = claim.epoch.0, worker = claim.worker.0, "lease expired");
            }
            self.record(&claim, change);
        }
    }

    /// Answers those who wait: work in the order of asking, the end of the run, or the end of their patience.
    fn answer(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { ask, worker, until } = waiting;
            if self.is_done() {
                effects.push(Effect::Done { ask });
            } else if let Some((lease, change)) = self.next_lease(worker, now) {
                let grant = self.grant(lease, worker, now, change);
                effects.push(Effect::Grant { ask, grant });
            } else if until <= now {
                effects.push(Effect::Wait { ask });
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }

    fn next_lease(&mut self, worker: WorkerId, now: Duration) -> Option<(LeaseId, LeaseChange)> {
        if let Some(lease) = self.pending.pop_first() {
            return Some((lease, LeaseChange::Granted));
        }
        let (at, lease) = self.straggler(worker)?;
        (at <= now).then_some((lease, LeaseChange::Doubled))
    }

    /// The lease that `worker` may take over from a slow holder first, and when.
    fn straggler(&self, worker: WorkerId) -> Option<(Duration, LeaseId)> {
        if !self.pending.is_empty() {
            return None;
        }
        let patience = (self.typical.duration()? * STRAGGLER).max(LEAST_PATIENCE);
        // One that was granted before its learner was replaced may be of a catalog that is not here.
        let end = self.first_without_catalog(self.learner.as_ref()?).saturating_mul(self.leases_per_stretch());
        let single = self.in_flight.iter().filter_map(|(&lease, holders)| match holders.as_slice() {
            [holder] if holder.claim.worker != worker && lease.0 < end => Some((holder.since + patience, lease)),
            _ => None,
        });
        single.min()
    }

    fn grant(&mut self, lease: LeaseId, worker: WorkerId, now: Duration, change: LeaseChange) -> Grant {
        self.grants += 1;
        let epoch = LeaseEpoch::new(self.config.incarnation, self.grants);
        let stretch = lease.0 / self.leases_per_stretch();
        let report = self.learner.as_ref().expect("a stretch is opened by a report");
        let version = self.config.pacing.lease_version(stretch, report.version);
        let catalog = report.catalogs.era_of(stretch).catalog;
        self.hold(Claim { lease, epoch, worker, version }, now, change);
        Grant { lease, epoch, worker, version, catalog, groups: self.groups_of(lease) }
    }

    fn hold(&mut self, claim: Claim, now: Duration, change: LeaseChange) {
        let end = now + self.config.lease_lifetime;
        let deadline = (now + self.config.lease_timeout).min(end);
        self.in_flight.entry(claim.lease).or_default().push(Holder { claim, since: now, deadline, end });
        self.record(&claim, change);
    }

    fn groups_of(&self, lease: LeaseId) -> std::ops::Range<u64> {
        let per_stretch = self.leases_per_stretch();
        let groups = self.config.pacing.groups_of(lease.0 / per_stretch);
        let size = u64::from(self.config.groups_per_lease.get());
        let start = groups.start + (lease.0 % per_stretch) * size;
        start..groups.end.min(start + size)
    }

    fn leases_per_stretch(&self) -> u64 {
        self.config.pacing.groups_per_batch().div_ceil(self.config.groups_per_lease.get().into())
    }
}

#[cfg(test)]
mod fairness;
#[cfg(test)]
mod tests;
