//! The lockstep schedule as arithmetic: which batch a group belongs to, and which policy version samples a batch.
//!
//! ```text
//! group g belongs to batch b = g / groups_per_batch
//! batch b is trained by optimizer step b, which turns version b into version b + 1
//! batch b is sampled with exactly version max(0, b - lag)          so its staleness when trained on is min(b, lag)
//! ```
//!
//! The rule looks at nothing but the group's number, so a run that was interrupted and resumed samples every batch with
//! the same version as a run that was not. The price is that a checkpoint carries the last `lag` published policies.

use crate::ids::{GroupId, PolicyVersion};
use serde::{Deserialize, Serialize};
use std::{num::NonZeroU32, ops::Range};

/// The arithmetic of a lockstep run. See the module documentation for the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lockstep {
    /// Groups that make one optimizer batch.
    pub groups_per_batch: NonZeroU32,
    /// Optimizer steps between the version that samples a batch and the version that is trained on it; 0 is on-policy.
    pub lag: u32,
}

impl Lockstep {
    /// The batch that `group` is part of.
    pub fn batch_of(&self, group: GroupId) -> u64 {
        group.0 / u64::from(self.groups_per_batch.get())
    }

    /// The groups of batch `batch`, in the order they are trained on.
    pub fn groups_of(&self, batch: u64) -> Range<u64> {
        let size = u64::from(self.groups_per_batch.get());
        batch.saturating_mul(size)..batch.saturating_add(1).saturating_mul(size)
    }

    /// The only version that may sample batch `batch`.
    pub fn version_of(&self, batch: u64) -> PolicyVersion {
        PolicyVersion(batch.saturating_sub(u64::from(self.lag)))
    }

    /// The batches that can be sampled while the learner is at `version`: not yet trained, and their version exists.
    pub fn open_batches(&self, version: PolicyVersion) -> Range<u64> {
        version.0..version.0.saturating_add(u64::from(self.lag) + 1)
    }

    /// The versions that an open batch may ask for while the learner is at `version`: the ones the learner retains.
    pub fn retained(&self, version: PolicyVersion) -> Range<u64> {
        self.version_of(version.0).0..version.0.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_open_batch_is_sampled_with_a_retained_version_and_never_staler_than_the_lag(
            groups_per_batch in 1u32..9, lag in 0u32..4, version in 0u64..1000,
        ) {
            let lockstep = Lockstep { groups_per_batch: groups_per_batch.try_into().unwrap(), lag };
            for batch in lockstep.open_batches(PolicyVersion(version)) {
                let sampled = lockstep.version_of(batch);
                prop_assert!(lockstep.retained(PolicyVersion(version)).contains(&sampled.0));
                let staleness = sampled.staleness_at(PolicyVersion(batch)).unwrap();
                prop_assert_eq!(staleness, batch.min(u64::from(lag)));
                for group in lockstep.groups_of(batch) {
                    prop_assert_eq!(lockstep.batch_of(GroupId(group)), batch);
                }
            }
            prop_assert_eq!(lockstep.retained(PolicyVersion(version)).count() as u64, version.min(lag.into()) + 1);
        }
    }
}
