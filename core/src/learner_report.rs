//! What the learner tells the coordinator about itself: everything that a coordinator without a past needs to go on.

use crate::{
    catalog::plan::CatalogPlan,
    group_set::GroupSet,
    ids::{Incarnation, PolicyVersion},
    pacing::Pacing,
};

/// The learner's position. A report replaces the one before it, so a lost one does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnerReport {
    /// Which start of the learner speaks; a higher one has gone back to its checkpoint.
    pub learner: Incarnation,
    /// A number that was drawn for this start alone: two learners whose incarnations were counted in different places may
    /// have the same.
    pub start: u64,
    /// The newest version that workers can get.
    pub version: PolicyVersion,
    /// Batches taken out to be trained on: `version`, or one more during a step.
    pub taken: u64,
    /// Groups that have been trained on or wait for their batch.
    pub received: GroupSet,
    /// Which catalog each batch is made with.
    pub catalogs: CatalogPlan,
}

impl LearnerReport {
    /// The position of a learner that has trained every batch.
    pub fn at_the_end(learner: Incarnation, pacing: Pacing, total_batches: u64, catalogs: CatalogPlan) -> Self {
        let received = GroupSet::below(pacing.groups_of(total_batches).start);
        Self { learner, start: 0, version: PolicyVersion(total_batches), taken: total_batches, received, catalogs }
    }
}
