//! Which groups have arrived: a pure state machine.
//!
//! Where a group may go is [`Pacing::place`]'s to say, so memory is bounded whatever workers send, and a group is trained
//! on at most once: a second copy meets the first, or the memory of it. In lockstep the next batch is the groups with its
//! numbers, in bounded mode the groups that arrived first; in both it is handed out in order of group id.
//!
//! Which catalog a batch is made with is [`CatalogPlan`]'s to say. A group of another one has no place, and in bounded mode the
//! groups of one catalog fill the batches of that catalog, in order of arrival among themselves.
//!
//! Bytes are counted too. The budget of the [`batcher`](crate::batcher) binds while the learner trains and is waived while
//! it waits for its next batch, since holding a group back then could not free a byte. So nothing waits for itself, and
//! what is held beyond the budget is what arrived during such a wait; the hard bound is the number of groups that the
//! pacing has a place for, times the largest size of one.

use riser_core::{
    catalog::plan::{CatalogPlan, PlanError},
    digest::Digest,
    group::RolloutGroup,
    group_set::GroupSet,
    ids::{GroupId, PolicyVersion},
    pacing::{Pacing, PacingError},
};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

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
    catalogs: CatalogPlan,
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
    /// The book of a learner at `version` that has been trained on `consumed`, in a run with these `catalogs`.
    pub fn new(
        pacing: Pacing,
        total_batches: u64,
        version: PolicyVersion,
        consumed: GroupSet,
        catalogs: CatalogPlan,
    ) -> Self {
        let (waiting, arrivals) = (BTreeMap::new(), VecDeque::new());
        Self { pacing, total_batches, taken: version.0, waiting, arrivals, received: consumed, bytes: 0, catalogs }
    }

    /// Which catalog each batch is made with.
    pub fn catalogs(&self) -> &CatalogPlan {
        &self.catalogs
    }

    /// The plan with a change to `catalog` of `folder` that begins with batch `asked`, or with the first that nobody can have
    /// been asked for.
    ///
    /// # Errors
    /// [`PlanError`] if there can be no such change.
    pub fn plan_change(&self, catalog: Digest, folder: PathBuf, asked: Option<u64>) -> Result<CatalogPlan, PlanError> {
        // The coordinator opens what the last report allows, and no report was ever ahead of what has been taken.
        let unleased = self.pacing.open_end(PolicyVersion(self.taken), None);
        self.catalogs.with_change(catalog, folder, asked, unleased, self.total_batches)
    }

    /// Goes on with a plan that [`plan_change`](Self::plan_change) made, before anything else was done.
    pub fn go_on_with(&mut self, catalogs: CatalogPlan) {
        self.catalogs = catalogs;
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
        let stretch = self.pacing.stretch_of(id);
        self.catalogs.check(stretch, group.catalog).map_err(|wrong| PacingError::Catalog { group: id, wrong })?;
        let batches = self.catalogs.batches_of(stretch);
        let queued = self.arrivals.iter().filter(|id| batches.contains(&self.pacing.stretch_of(**id))).count();
        self.pacing.place(id, group.version, self.taken, batches.start, queued as u64, self.total_batches)?;
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
            Pacing::Bounded(bounded) => {
                let batches = self.catalogs.batches_of(self.taken);
                let fits = |id: &&GroupId| batches.contains(&bounded.stretch_of(**id));
                self.arrivals.iter().filter(fits).take(size as usize).copied().collect()
            }
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
