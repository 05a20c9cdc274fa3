//! Which groups have arrived: a pure state machine.
//!
//! Only the open batches have room ([`Lockstep::open_batches`]), so memory is bounded whatever workers send, and a group
//! is trained on at most once: a second copy meets the first, or a batch that is no longer open.

use riser_core::{
    group::RolloutGroup,
    ids::{GroupId, PolicyVersion},
    lockstep::Lockstep,
};
use std::collections::BTreeMap;

/// The groups of the open batches.
#[derive(Debug)]
pub struct BatchBook {
    lockstep: Lockstep,
    total_batches: u64,
    version: PolicyVersion,
    groups: BTreeMap<GroupId, RolloutGroup>,
}

/// What became of a group that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It will be trained on.
    Accepted,
    /// It is here already, or has been trained on.
    Duplicate,
}

/// Why a group has no place in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// Nobody can have been asked for this group yet.
    #[error("group {group} belongs to batch {batch}, batches {first} to {last} are open")]
    NotOpen {
        /// The group.
        group: GroupId,
        /// Its batch.
        batch: u64,
        /// First open batch.
        first: u64,
        /// Last open batch.
        last: u64,
    },
    /// Sampled with a policy that was not asked for.
    #[error("group {group} of batch {batch} was sampled with version {got}, the schedule asks for version {expected}")]
    Version {
        /// The group.
        group: GroupId,
        /// Its batch.
        batch: u64,
        /// Version it was sampled with.
        got: PolicyVersion,
        /// Version it should have been sampled with.
        expected: PolicyVersion,
    },
}

impl BatchBook {
    /// The book of a learner at `version`.
    pub fn new(lockstep: Lockstep, total_batches: u64, version: PolicyVersion) -> Self {
        Self { lockstep, total_batches, version, groups: BTreeMap::new() }
    }

    /// Takes a group that has been validated.
    ///
    /// # Errors
    /// [`AdmissionError`] if the schedule cannot have asked for it.
    pub fn admit(&mut self, group: RolloutGroup) -> Result<Admission, AdmissionError> {
        let batch = self.lockstep.batch_of(group.id);
        let expected = self.lockstep.version_of(batch);
        if group.version != expected {
            return Err(AdmissionError::Version { group: group.id, batch, got: group.version, expected });
        }
        if batch < self.version.0 {
            return Ok(Admission::Duplicate);
        }
        let open = self.lockstep.open_batches(self.version);
        let end = open.end.min(self.total_batches);
        if batch >= end {
            let (first, last) = (open.start, end.saturating_sub(1));
            return Err(AdmissionError::NotOpen { group: group.id, batch, first, last });
        }
        match self.groups.entry(group.id) {
            std::collections::btree_map::Entry::Occupied(_) => Ok(Admission::Duplicate),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(group);
                Ok(Admission::Accepted)
            }
        }
    }

    /// Removes and returns the next batch if all its groups are here, ordered by group id, and opens the batch after it.
    pub fn take_batch(&mut self) -> Option<Vec<RolloutGroup>> {
        let next = self.lockstep.groups_of(self.version.0);
        let here = self.groups.range(GroupId(next.start)..GroupId(next.end)).count() as u64;
        if here < next.end - next.start {
            return None;
        }
        let later = self.groups.split_off(&GroupId(next.end));
        let batch = std::mem::replace(&mut self.groups, later);
        self.version = self.version.next();
        Some(batch.into_values().collect())
    }

    /// Groups that wait for their batch.
    pub fn num_groups(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests;
