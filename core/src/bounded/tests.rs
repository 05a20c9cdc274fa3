//! The rule against a model that knows nothing of the proof: adversarial workers, a learner that trains when it likes, and
//! a full account of every group's staleness.

use super::*;
use crate::pacing::Pacing;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One move of the adversary.
#[derive(Debug, Clone)]
enum Move {
    /// A worker takes the next group that may be opened, or one that expired.
    Take,
    /// One of the groups on loan arrives, however old.
    Deliver(usize),
    /// One of the loans expires; its holder may still deliver.
    Expire(usize),
    /// A holder whose loan expired delivers after all.
    DeliverLate(usize),
    /// The learner takes out a batch, if there is one.
    TakeBatch,
    /// The learner publishes the version of the batch it took.
    Publish,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => Just(Move::Take),
        5 => any::<usize>().prop_map(Move::Deliver),
        1 => any::<usize>().prop_map(Move::Expire),
        1 => any::<usize>().prop_map(Move::DeliverLate),
        2 => Just(Move::TakeBatch),
        2 => Just(Move::Publish),
    ];
    prop::collection::vec(one, 0..400)
}

struct Model {
    pacing: Pacing,
    total: u64,
    /// First batch of a second catalog; none if it is beyond the end.
    change: u64,
    opened: u64,
    expired: BTreeSet<u64>,
    loans: BTreeMap<u64, u64>,
    ghosts: Vec<(u64, u64)>,
    queue: Vec<(u64, u64)>,
    received: BTreeSet<u64>,
    taken: u64,
    published: u64,
    refused: u64,
    trained: BTreeSet<u64>,
}

impl Model {
    fn new(bounded: Bounded, total: u64, change: u64) -> Self {
        Self {
            pacing: Pacing::Bounded(bounded),
            total,
            change,
            opened: 0,
            expired: BTreeSet::new(),
            loans: BTreeMap::new(),
            ghosts: vec![],
            queue: vec![],
            received: BTreeSet::new(),
            taken: 0,
            published: 0,
            refused: 0,
            trained: BTreeSet::new(),
        }
    }

    fn open_groups(&self) -> u64 {
        let oldest = self.loans.values().min().map(|&version| PolicyVersion(version));
        self.pacing.open_end(PolicyVersion(self.published), oldest).min(self.total) * self.pacing.groups_per_batch()
    }

    /// Whether a worker got something to do.
    fn take(&mut self) -> bool {
        let group = match self.expired.pop_first() {
            Some(group) => group,
            None if self.opened < self.open_groups() => {
                self.opened += 1;
                self.opened - 1
            }
            None => return false,
        };
        self.loans.insert(group, self.published);
        true
    }

    /// Whether the group was admitted, or had been before.
    fn arrive(&mut self, group: u64, version: u64) -> bool {
        if self.received.contains(&group) {
            return true;
        }
        let is_second = self.is_second(group);
        let queued = self.queue.iter().filter(|(other, _)| self.is_second(*other) == is_second).count() as u64;
        let first = if is_second { self.change } else { 0 };
        match self.pacing.place(GroupId(group), PolicyVersion(version), self.taken, first, queued, self.total) {
            Ok(_) => {
                self.received.insert(group);
                self.queue.push((group, version));
                true
            }
            Err(_) => {
                self.refused += 1;
                false
            }
        }
    }

    /// Whether a group is of the second catalog.
    fn is_second(&self, group: u64) -> bool {
        self.pacing.stretch_of(GroupId(group)) >= self.change
    }

    fn make(&mut self, one: &Move) {
        match *one {
            Move::Take => {
                self.take();
            }
            Move::Deliver(pick) => {
                let Some((&group, &version)) = self.loans.iter().nth(pick % self.loans.len().max(1)) else { return };
                assert!(self.arrive(group, version), "a group on loan always has a place");
                self.loans.remove(&group);
            }
            Move::Expire(pick) => {
                let Some((&group, &version)) = self.loans.iter().nth(pick % self.loans.len().max(1)) else { return };
                self.loans.remove(&group);
                self.expired.insert(group);
                self.ghosts.push((group, version));
            }
            Move::DeliverLate(pick) => {
                if !self.ghosts.is_empty() {
                    let (group, version) = self.ghosts.swap_remove(pick % self.ghosts.len());
                    self.arrive(group, version);
                }
            }
            Move::TakeBatch => {
                self.take_batch();
            }
            Move::Publish => self.published = self.taken,
        }
    }

    fn take_batch(&mut self) -> bool {
        let size = self.pacing.groups_per_batch() as usize;
        // One step at a time: the batch before has been published.
        let is_second = self.taken >= self.change;
        let fits: Vec<usize> = (0..self.queue.len())
            .filter(|&index| self.is_second(self.queue[index].0) == is_second)
            .take(size)
            .collect();
        if fits.len() < size || self.published < self.taken {
            return false;
        }
        for index in fits.into_iter().rev() {
            let (group, version) = self.queue.remove(index);
            let staleness = self.taken.checked_sub(version).expect("not from the future");
            assert!(staleness <= self.pacing.max_staleness().into(), "group {group}: staleness {staleness}");
            assert!(self.trained.insert(group), "group {group} is trained on twice");
        }
        self.taken += 1;
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_schedule_makes_a_group_too_stale_and_none_deadlocks_with_or_without_a_change_of_catalog(
        groups_per_batch in 1u32..6, max_staleness in 0u32..4, total in 1u64..8, change in 1u64..12, history in moves(),
    ) {
        let bounded = Bounded { groups_per_batch: groups_per_batch.try_into().unwrap(), max_staleness };
        let mut model = Model::new(bounded, total, change);
        for one in &history {
            model.make(one);
        }
        // From here on everybody does what they should, one thing at a time.
        for _ in 0..total * u64::from(groups_per_batch) * 4 + 10 {
            model.make(&Move::Publish);
            model.make(&Move::Take);
            model.make(&Move::Deliver(0));
            model.make(&Move::TakeBatch);
        }
        model.make(&Move::Publish);
        prop_assert_eq!(model.published, total, "the run ends");
        prop_assert_eq!(model.trained.len() as u64, total * u64::from(groups_per_batch), "every group is trained on");
    }

    /// The rule is tight: a worker is sent away only when one more group could make another too stale.
    #[test]
    fn with_nothing_on_loan_for_long_the_bound_is_the_number_of_batches_ahead(
        groups_per_batch in 1u32..6, max_staleness in 0u32..6,
    ) {
        let bounded = Bounded { groups_per_batch: groups_per_batch.try_into().unwrap(), max_staleness };
        let mut model = Model::new(bounded, 100, u64::MAX);
        let mut got = 0;
        while model.take() {
            model.make(&Move::Deliver(0));
            got += 1;
        }
        prop_assert_eq!(got, u64::from(groups_per_batch) * (u64::from(max_staleness) + 1));
    }
}

/// Workers that take between 1 and 3 ticks a group, a learner that takes 4 ticks a step of 4 groups: with room for what is
/// under way nobody is ever sent away, without it somebody is.
#[test]
fn with_a_large_enough_bound_no_worker_is_ever_idle() {
    let idle_ticks = |max_staleness| {
        let bounded = Bounded { groups_per_batch: 4.try_into().unwrap(), max_staleness };
        let mut model = Model::new(bounded, 1_000, u64::MAX);
        let mut workers: Vec<Option<(u64, u64)>> = vec![None; 2];
        let (mut idle, mut step_ends) = (0, None);
        for now in 0u64..600 {
            for (index, worker) in workers.iter_mut().enumerate() {
                if let Some((group, done)) = *worker
                    && done <= now
                {
                    let version = model.loans.remove(&group).expect("it is on loan");
                    assert!(model.arrive(group, version));
                    *worker = None;
                }
                if worker.is_none() && model.take() {
                    let group = *model.loans.keys().max().expect("just taken");
                    *worker = Some((group, now + 2 + (index as u64 + now) % 2));
                }
                idle += u64::from(worker.is_none());
            }
            if step_ends.is_some_and(|end| end <= now) {
                model.make(&Move::Publish);
                step_ends = None;
            }
            if step_ends.is_none() && model.take_batch() {
                step_ends = Some(now + 4);
            }
        }
        assert_eq!(model.refused, 0, "no finished work is thrown away");
        (idle, model.taken)
    };
    let (on_policy_idle, on_policy_steps) = idle_ticks(0);
    let (idle, steps) = idle_ticks(2);
    assert!(on_policy_idle > 0);
    assert_eq!(idle, 0);
    assert!(steps > on_policy_steps, "{steps} steps against {on_policy_steps}");
}
