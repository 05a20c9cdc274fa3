//! Which groups have arrived: a pure state machine.
//!
//! Where a group may go is [`Pacing::place`]'s to say, so memory is bounded whatever workers send, and a group is trained
//! on at most once: a second copy meets the first, or the memory of it. In lockstep the next batch is the groups with its
//! numbers, in bounded mode the groups that arrived first; in both it is handed out in order of group id.
//!
//! Bytes are counted too. The budget of the [`batcher`](crate::batcher) binds while the learner trains and is waived while
//! it waits for its next batch, since holding a group back then could not free a byte. So nothing waits for itself, and
//! what is held beyond the budget is what arrived during such a wait; the hard bound is the number of groups that the
//! pacing has a place for, times the largest size of one.

use riser_core::{
    group::RolloutGroup,
    group_set::GroupSet,
    ids::{GroupId, PolicyVersion},
    pacing::{Pacing, PacingError},
};
use std::collections::{BTreeMap, VecDeque};

/// The groups that wait for their batch, and the memory of all before them.
#[derive(Debug)]
pub struct BatchBook {
    pacing: Pacing,
    total_batches: u64,
    /// Batches taken out.
    taken: u64,
    waiting: BTreeMap<GroupId, Held>,
    /// The waiting groups in order of arrival.
    arrivals: VecDeque<GroupId>,
    /// Every group that was ever admitted.
    received: GroupSet,
    bytes: u64,
}

#[derive(Debug)]
struct Held {
    group: RolloutGroup,
    bytes: u64,
}

/// What became of a group that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It will be trained on.
    Accepted,
    /// It is here already, or has been trained on.
    Duplicate,
}

impl BatchBook {
    /// The book of a learner at `version` that has been trained on `consumed`.
    pub fn new(pacing: Pacing, total_batches: u64, version: PolicyVersion, consumed: GroupSet) -> Self {
        let (waiting, arrivals) = (BTreeMap::new(), VecDeque::new());
        Self { pacing, total_batches, taken: version.0, waiting, arrivals, received: consumed, bytes: 0 }
    }

    /// Takes a group that has been validated and has `bytes` on the wire.
    ///
    /// # Errors
    /// [`PacingError`] if the schedule cannot have asked for it, or not any more.
    pub fn admit(&mut self, group: RolloutGroup, bytes: u64) -> Result<Admission, PacingError> {
        let id = group.id;
        if self.received.contains(id) {
            return Ok(Admission::Duplicate);
        }
        self.pacing.place(id, group.version, self.taken, self.arrivals.len() as u64, self.total_batches)?;
        self.received.insert(id);
        self.arrivals.push_back(id);
        self.bytes += bytes;
        self.waiting.insert(id, Held { group, bytes });
        Ok(Admission::Accepted)
    }

    /// Removes and returns the next batch if it is complete, ordered by group id.
    pub fn take_batch(&mut self) -> Option<Vec<RolloutGroup>> {
        if self.taken >= self.total_batches {
            return None;
        }
        let size = self.pacing.groups_per_batch();
        let mut ids: Vec<GroupId> = match self.pacing {
            Pacing::Lockstep(lockstep) => {
                let next = lockstep.groups_of(self.taken);
                self.waiting.range(GroupId(next.start)..GroupId(next.end)).map(|(&id, _)| id).collect()
            }
            Pacing::Bounded(_) => self.arrivals.iter().take(size as usize).copied().collect(),
        };
        if (ids.len() as u64) < size {
            return None;
        }
        ids.sort_unstable();
        self.arrivals.retain(|id| ids.binary_search(id).is_err());
        let held: Vec<Held> = ids.iter().filter_map(|id| self.waiting.remove(id)).collect();
        self.bytes -= held.iter().map(|held| held.bytes).sum::<u64>();
        self.taken += 1;
        Some(held.into_iter().map(|held| held.group).collect())
    }

    /// Groups that wait for their batch.
    pub fn num_groups(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of the groups that wait for their batch.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Batches taken out so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Every group that has been trained on or waits.
    pub fn received(&self) -> &GroupSet {
        &self.received
    }
}

#[cfg(test)]
mod tests;
