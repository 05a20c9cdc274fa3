//! Bounded staleness as arithmetic: how much may be on loan so that nothing ever grows too old.
//!
//! Symbols: B groups per batch, S the bound, v the newest version (v batches have been trained, v B groups are used up),
//! u(g) the version that group g is sampled with. A batch is the next B groups to arrive, whichever they are; batch b
//! turns version b into version b + 1, so a group of batch b has staleness b - u(g). The bound asks for
//!
//! ```text
//! 0 <= b - u(g) <= S        for every group g of every batch b
//! ```
//!
//! Group ids are opened in ascending order; N is the number opened so far. The rule of admission:
//!
//! ```text
//! N <= (min(v, oldest) + S + 1) * B        oldest = the smallest u(g) of the groups on loan        (1)
//! ```
//!
//! **The bound holds.** Take a group g on loan. While it is away at most N - 1 other groups exist, by (1) at most
//! (u(g) + S + 1) B - 1. Batches 0 .. u(g) + S together need (u(g) + S + 1) B groups, one more than that. So batch
//! u(g) + S cannot be filled before g arrives, and g is part of it or of one before it. On arrival its place is settled:
//! with t batches taken and q groups queued before it, it is in batch t + q / B <= u(g) + S. Hence groups that wait at
//! the learner need not be counted in (1): only those on loan do.
//!
//! **Nothing deadlocks.** If the learner lacks groups for batch v, each group on loan has v <= u(g) + S, so (1) admits
//! N up to at least (v + 1) B, which is all that batch v needs; and a loan ends, by delivery or by expiry.
//!
//! **With room nobody waits.** A worker is refused only at N = (min(v, oldest) + S + 1) B. While all loans are of version
//! v, that is S + 1 batches that are on loan or delivered, so S batches beyond the one that is being trained.
//!
//! **What can still be discarded.** A loan that expired no longer counts in (1), so if its old holder delivers after all,
//! the group may have no place any more; nor has a group sampled with a version that a restarted learner does not
//! reach back to. The learner refuses both by name ([`PacingError`](crate::pacing::PacingError)), and they are counted.

use crate::ids::{GroupId, PolicyVersion};
use serde::{Deserialize, Serialize};
use std::{num::NonZeroU32, ops::Range};

/// The arithmetic of a run with bounded staleness. See the module documentation for the rule and its proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounded {
    /// Groups that make one optimizer batch (B).
    pub groups_per_batch: NonZeroU32,
    /// Most optimizer steps between the version that sampled a group and the one that is trained on it (S).
    pub max_staleness: u32,
}

impl Bounded {
    /// Groups below this number times B may be opened: the right side of (1) over B.
    ///
    /// `oldest` is the smallest version of the groups on loan, if any is.
    pub fn open_end(&self, newest: PolicyVersion, oldest: Option<PolicyVersion>) -> u64 {
        oldest.map_or(newest, |oldest| oldest.min(newest)).0.saturating_add(u64::from(self.max_staleness) + 1)
    }

    /// The batch of a group that arrives now: `taken` batches have been taken out and `queued` groups wait before it.
    pub fn batch_at(&self, taken: u64, queued: u64) -> u64 {
        taken + queued / u64::from(self.groups_per_batch.get())
    }

    /// The last batch that a group of `version` may be part of.
    pub fn last_batch(&self, version: PolicyVersion) -> u64 {
        version.0 + u64::from(self.max_staleness)
    }

    /// The stretch of group ids that `group` is in; leases are cut within stretches of B groups, as in lockstep.
    pub fn stretch_of(&self, group: GroupId) -> u64 {
        group.0 / u64::from(self.groups_per_batch.get())
    }

    /// The versions that a loan may name while the learner is at `newest`: by (1) none on loan is older.
    pub fn retained(&self, newest: PolicyVersion) -> Range<u64> {
        newest.0.saturating_sub(self.max_staleness.into())..newest.0.saturating_add(1)
    }
}

#[cfg(test)]
mod tests;
