//! The two scheduling modes behind one type, shared by the coordinator and the learner so that they cannot disagree.
//!
//! | | [`Lockstep`] | [`Bounded`] |
//! |---|---|---|
//! | a batch is | the groups with its numbers | the next groups to arrive |
//! | sampled with | exactly version max(0, b - lag) | the newest version when granted |
//! | staleness when trained on | min(b, lag) | at most S, by admission |
//! | same bits with any number of workers | yes | no |
//!
//! Both cut group ids into stretches of `groups_per_batch`; in lockstep stretch b is batch b. Group ids determine prompts
//! and random draws in both modes, and every group id of a run is trained on exactly once.

use crate::{
    bounded::Bounded,
    ids::{GroupId, PolicyVersion},
    lockstep::Lockstep,
};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A scheduling mode with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pacing {
    /// Every batch is sampled with one given version.
    Lockstep(Lockstep),
    /// Any version within a bound.
    Bounded(Bounded),
}

/// Why a group has no place in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacingError {
    /// Nobody can have been asked for this group yet.
    #[error("group {group} belongs to batch {batch}, batches {first} to {last} are open")]
    NotOpen {
        /// The group.
        group: GroupId,
        /// The stretch it is in; its batch in lockstep.
        batch: u64,
        /// First open one.
        first: u64,
        /// Last open one.
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
    /// Would be trained on later than the bound allows: its lease expired before it arrived.
    #[error("group {group} of version {version} would be in batch {batch}, staleness is bounded by {bound}")]
    Stale {
        /// The group.
        group: GroupId,
        /// Version it was sampled with.
        version: PolicyVersion,
        /// Batch it would be part of.
        batch: u64,
        /// The bound.
        bound: u32,
    },
    /// Sampled with a version that the learner has not reached: from before the learner was restarted.
    #[error("group {group} was sampled with version {version}, the learner is at version {newest}")]
    Future {
        /// The group.
        group: GroupId,
        /// Version it was sampled with.
        version: PolicyVersion,
        /// Version the learner is at.
        newest: u64,
    },
}

impl PacingError {
    /// Whether no honest worker can have sent the group; otherwise it merely came too late, or to another learner.
    pub fn is_wrong(&self) -> bool {
        matches!(self, Self::Version { .. })
    }
}

impl Pacing {
    /// Groups that make one optimizer batch, and the length of a stretch of group ids.
    pub fn groups_per_batch(&self) -> u64 {
        match self {
            Self::Lockstep(lockstep) => lockstep.groups_per_batch.get().into(),
            Self::Bounded(bounded) => bounded.groups_per_batch.get().into(),
        }
    }

    /// Largest staleness a group can have when it is trained on.
    pub fn max_staleness(&self) -> u32 {
        match self {
            Self::Lockstep(lockstep) => lockstep.lag,
            Self::Bounded(bounded) => bounded.max_staleness,
        }
    }

    /// Name of the mode, as in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lockstep(_) => "lockstep",
            Self::Bounded(_) => "bounded",
        }
    }

    /// The stretch of group ids that `group` is in.
    pub fn stretch_of(&self, group: GroupId) -> u64 {
        group.0 / self.groups_per_batch()
    }

    /// The groups of stretch `stretch`.
    pub fn groups_of(&self, stretch: u64) -> Range<u64> {
        let size = self.groups_per_batch();
        stretch.saturating_mul(size)..stretch.saturating_add(1).saturating_mul(size)
    }

    /// Stretches below this number may be leased while the newest version is `newest` and the smallest version on loan is
    /// `oldest`.
    pub fn open_end(&self, newest: PolicyVersion, oldest: Option<PolicyVersion>) -> u64 {
        match self {
            Self::Lockstep(lockstep) => lockstep.open_batches(newest).end,
            Self::Bounded(bounded) => bounded.open_end(newest, oldest),
        }
    }

    /// The version that a lease of stretch `stretch` names when it is granted while the newest version is `newest`.
    pub fn lease_version(&self, stretch: u64, newest: PolicyVersion) -> PolicyVersion {
        match self {
            Self::Lockstep(lockstep) => lockstep.version_of(stretch),
            Self::Bounded(_) => newest,
        }
    }

    /// The versions that a lease may name while the learner is at `newest`: the ones the learner retains.
    pub fn retained(&self, newest: PolicyVersion) -> Range<u64> {
        match self {
            Self::Lockstep(lockstep) => lockstep.retained(newest),
            Self::Bounded(bounded) => bounded.retained(newest),
        }
    }

    /// The versions that new leases of a run resumed at `newest` name: the ones a checkpoint carries.
    pub fn resumed_with(&self, newest: PolicyVersion) -> Range<u64> {
        match self {
            Self::Lockstep(lockstep) => lockstep.retained(newest),
            Self::Bounded(_) => newest.0..newest.0.saturating_add(1),
        }
    }

    /// Finds a place for a group that has not been received yet: the batch it will be part of.
    ///
    /// `taken` batches of the run's `total` have been taken out, `queued` groups wait.
    ///
    /// # Errors
    /// [`PacingError`] if the schedule cannot have asked for it, or not any more.
    pub fn place(
        &self,
        group: GroupId,
        version: PolicyVersion,
        taken: u64,
        queued: u64,
        total: u64,
    ) -> Result<u64, PacingError> {
        let stretch = self.stretch_of(group);
        let end = self.open_end(PolicyVersion(taken), None).min(total);
        let not_open = PacingError::NotOpen { group, batch: stretch, first: taken, last: end.saturating_sub(1) };
        match self {
            Self::Lockstep(lockstep) => {
                let expected = lockstep.version_of(stretch);
                if version != expected {
                    return Err(PacingError::Version { group, batch: stretch, got: version, expected });
                }
                if stretch >= end { Err(not_open) } else { Ok(stretch) }
            }
            Self::Bounded(bounded) => {
                if version.0 > taken {
                    return Err(PacingError::Future { group, version, newest: taken });
                }
                if stretch >= end {
                    return Err(not_open);
                }
                let batch = bounded.batch_at(taken, queued);
                if batch > bounded.last_batch(version) {
                    return Err(PacingError::Stale { group, version, batch, bound: bounded.max_staleness });
                }
                Ok(batch)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_a_checkpoint_is_read_back() {
        let size = 3.try_into().unwrap();
        for pacing in [
            Pacing::Lockstep(Lockstep { groups_per_batch: size, lag: 1 }),
            Pacing::Bounded(Bounded { groups_per_batch: size, max_staleness: 2 }),
        ] {
            let text = serde_json::to_string(&pacing).unwrap();
            assert_eq!(serde_json::from_str::<Pacing>(&text).unwrap(), pacing, "{text}");
        }
    }

    #[test]
    fn a_bounded_run_places_a_group_by_arrival_and_refuses_it_beyond_the_bound() {
        let pacing = Pacing::Bounded(Bounded { groups_per_batch: 3.try_into().unwrap(), max_staleness: 1 });
        let place = |group, version, taken, queued| {
            pacing.place(GroupId(group), PolicyVersion(version), taken, queued, 4).map_err(|error| error.to_string())
        };
        assert_eq!(place(0, 0, 0, 5), Ok(1));
        let late = "group 0 of version 0 would be in batch 2, staleness is bounded by 1";
        assert_eq!(place(0, 0, 0, 6), Err(late.to_owned()));
        assert_eq!(
            place(0, 1, 0, 0),
            Err("group 0 was sampled with version 1, the learner is at version 0".to_owned())
        );
        assert_eq!(place(6, 0, 0, 0), Err("group 6 belongs to batch 2, batches 0 to 1 are open".to_owned()));
        assert_eq!(place(12, 3, 3, 0), Err("group 12 belongs to batch 4, batches 3 to 3 are open".to_owned()));
    }
}
