//! From `[train]` to the scheduling mode.

use super::{TrainConfig, TrainSchedule};
use crate::{bounded::Bounded, lockstep::Lockstep, pacing::Pacing};
use std::num::NonZeroU32;

impl TrainConfig {
    /// The scheduling mode; `None` if a number does not fit, which a checked configuration rules out.
    pub fn pacing(&self) -> Option<Pacing> {
        let groups_per_batch = u32::try_from(self.groups_per_batch).ok().and_then(NonZeroU32::new)?;
        Some(match self.schedule {
            TrainSchedule::Lockstep => {
                Pacing::Lockstep(Lockstep { groups_per_batch, lag: u32::try_from(self.lag).ok()? })
            }
            TrainSchedule::Bounded => {
                let max_staleness = u32::try_from(self.max_staleness).ok()?;
                Pacing::Bounded(Bounded { groups_per_batch, max_staleness })
            }
        })
    }

    /// Whether every group is trained on by the policy that sampled it.
    pub(super) fn is_on_policy(&self) -> bool {
        match self.schedule {
            TrainSchedule::Lockstep => self.lag == 0,
            TrainSchedule::Bounded => self.max_staleness == 0,
        }
    }
}
