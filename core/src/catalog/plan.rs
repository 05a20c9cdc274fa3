//! Which catalog each batch of a run is made with: a pure decision that coordinator and learner make alike.
//!
//! ```text
//! batch      0 1 2 3 4 5 6 7 ...
//! catalog    A A A B B B B C      eras (0, A), (3, B), (7, C)
//! ```
//!
//! The learner owns the plan, because it is the commit point of a run. It admits a change at the first batch that nobody can
//! have been asked for yet, which it knows from its own position alone: the coordinator opens no more than the learner's
//! last report allows. The plan travels with every report, so whoever opens a batch knows its catalog. What is admitted
//! stays: a learner that goes on from a checkpoint before it makes the same switch. So no batch mixes catalogs, and in
//! lockstep a run whose changes have given batches is as reproducible as one without.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::{ops::Range, path::PathBuf};

/// Most changes of one run; what a peer claims beyond is not believed.
pub const MAX_CHANGES: usize = 1000;

/// A catalog and the first batch that is made with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Era {
    /// First batch.
    pub first_batch: u64,
    /// The catalog.
    pub catalog: Digest,
    /// The data folder that it comes from, as the hosts of learner and coordinator call it; `None` for the run's own data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

/// The eras of a run, ascending; the first one begins with batch 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Era>", into = "Vec<Era>")]
pub struct CatalogPlan {
    eras: Vec<Era>,
}

/// Why a change of catalog is not admitted, or a plan not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It is the one that the run has already.
    #[error("the run has catalog {} already, from batch {first_batch}", catalog.short())]
    Same {
        /// The catalog.
        catalog: Digest,
        /// Since when.
        first_batch: u64,
    },
    /// Batches before have been asked for already.
    #[error("batch {asked} is too early for the change: batches below {earliest} may have been leased")]
    TooEarly {
        /// The batch that was asked for.
        asked: u64,
        /// The first that it could begin with.
        earliest: u64,
    },
    /// More than any run has.
    #[error("the run has had {MAX_CHANGES} changes of catalog")]
    TooMany,
    /// No batch is left for it.
    #[error("the change would begin with batch {first_batch}, the run has {total_batches} batches")]
    TooLate {
        /// First batch that it could begin with.
        first_batch: u64,
        /// Batches of the run.
        total_batches: u64,
    },
    /// Eras that do not begin with batch 0, do not ascend, or change nothing.
    #[error("eras of a plan ascend from batch 0 and differ from one to the next: {what}")]
    Order {
        /// Where they do not.
        what: String,
    },
}

/// A group of another catalog than its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("batch {batch} is made with catalog {}, got catalog {}", expected.short(), got.short())]
pub struct WrongCatalog {
    /// The batch.
    pub batch: u64,
    /// Its catalog.
    pub expected: Digest,
    /// The group's.
    pub got: Digest,
}

impl CatalogPlan {
    /// The plan of a run that has had one catalog so far.
    pub fn new(catalog: Digest) -> Self {
        Self { eras: vec![Era { first_batch: 0, catalog, folder: None }] }
    }

    /// All eras, ascending.
    pub fn eras(&self) -> &[Era] {
        &self.eras
    }

    /// The era of a batch.
    pub fn era_of(&self, batch: u64) -> &Era {
        &self.eras[self.index_of(batch)]
    }

    /// The batches of the era that `batch` is in; the last era has no end.
    pub fn batches_of(&self, batch: u64) -> Range<u64> {
        let index = self.index_of(batch);
        self.eras[index].first_batch..self.eras.get(index + 1).map_or(u64::MAX, |next| next.first_batch)
    }

    /// The eras of `batch` and of those after it: what a run at that batch still needs.
    pub fn eras_from(&self, batch: u64) -> &[Era] {
        &self.eras[self.index_of(batch)..]
    }

    /// The eras that have begun with `batch`: all that a policy made of the batches before it can depend on.
    pub fn until(&self, batch: u64) -> Self {
        Self { eras: self.eras[..=self.index_of(batch)].to_vec() }
    }

    fn index_of(&self, batch: u64) -> usize {
        // The first era begins with batch 0, so there is one.
        self.eras.partition_point(|era| era.first_batch <= batch) - 1
    }

    /// The learner's gate: whether a group of `catalog` may be part of `batch`.
    ///
    /// # Errors
    /// [`WrongCatalog`] if not.
    pub fn check(&self, batch: u64, catalog: Digest) -> Result<(), WrongCatalog> {
        let expected = self.era_of(batch).catalog;
        if catalog == expected { Ok(()) } else { Err(WrongCatalog { batch, expected, got: catalog }) }
    }

    /// This plan with a change to `catalog` of `folder`, in a run of `total_batches` where batches below `unleased` may have
    /// been leased. It begins with batch `asked`, or with the first that is possible.
    ///
    /// # Errors
    /// [`PlanError`] says why there can be no such change.
    pub fn with_change(
        &self,
        catalog: Digest,
        folder: PathBuf,
        asked: Option<u64>,
        unleased: u64,
        total_batches: u64,
    ) -> Result<Self, PlanError> {
        let last = &self.eras[self.eras.len() - 1];
        if catalog == last.catalog {
            return Err(PlanError::Same { catalog, first_batch: last.first_batch });
        }
        if self.eras.len() > MAX_CHANGES {
            return Err(PlanError::TooMany);
        }
        // Every era keeps a batch, also one that has not begun: what was admitted before is not taken back.
        let earliest = unleased.max(last.first_batch + 1);
        let first_batch = asked.unwrap_or(earliest);
        if first_batch < earliest {
            return Err(PlanError::TooEarly { asked: first_batch, earliest });
        }
        if first_batch >= total_batches {
            return Err(PlanError::TooLate { first_batch, total_batches });
        }
        let mut plan = self.clone();
        plan.eras.push(Era { first_batch, catalog, folder: Some(folder) });
        Ok(plan)
    }

    /// The plan to go on with from a checkpoint of batch `batch` that was made with `used`, if `kept` was written down since:
    /// what was to come then is to come still. A plan that says otherwise of the batches before is of another learner, or of a
    /// change that was not made, and does not count.
    pub fn resumed(used: Self, kept: Option<Self>, batch: u64) -> Self {
        kept.filter(|kept| kept.until(batch) == used).unwrap_or(used)
    }

    /// Whether this plan is `earlier`, or that and what was admitted since: what a restarted role may go on with.
    pub fn continues(&self, earlier: &Self) -> bool {
        self.eras.starts_with(&earlier.eras)
    }
}

impl TryFrom<Vec<Era>> for CatalogPlan {
    type Error = PlanError;

    fn try_from(eras: Vec<Era>) -> Result<Self, PlanError> {
        let order = |what: String| Err(PlanError::Order { what });
        if eras.len() > MAX_CHANGES + 1 {
            return Err(PlanError::TooMany);
        }
        match eras.first() {
            Some(Era { first_batch: 0, .. }) => {}
            Some(Era { first_batch, .. }) => return order(format!("the first begins with batch {first_batch}")),
            None => return order("there is none".to_owned()),
        }
        match eras
            .windows(2)
            .find(|pair| pair[0].first_batch >= pair[1].first_batch || pair[0].catalog == pair[1].catalog)
        {
            Some(pair) => {
                let of = |era: &Era| format!("catalog {} from batch {}", era.catalog.short(), era.first_batch);
                order(format!("{} comes before {}", of(&pair[0]), of(&pair[1])))
            }
            None => Ok(Self { eras }),
        }
    }
}

impl From<CatalogPlan> for Vec<Era> {
    fn from(plan: CatalogPlan) -> Self {
        plan.eras
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn catalog(number: u8) -> Digest {
        Digest::of(&[number])
    }

    fn folder() -> PathBuf {
        "/data/next".into()
    }

    proptest! {
        #[test]
        fn a_batch_keeps_the_catalog_that_it_was_leased_with_whatever_is_admitted_later(
            changes in prop::collection::vec((0u8..4, prop::option::of(0u64..40), 0u64..5), 0..12), total in 1u64..40,
        ) {
            let mut plan = CatalogPlan::new(catalog(0));
            let (mut unleased, mut leased) = (0, vec![]);
            for (number, asked, more) in changes {
                if let Ok(next) = plan.with_change(catalog(number), folder(), asked, unleased, total) {
                    let era = &next.eras()[next.eras().len() - 1];
                    prop_assert!(era.first_batch >= unleased && era.first_batch < total);
                    prop_assert!(asked.is_none_or(|asked| era.first_batch == asked));
                    prop_assert_eq!(next.era_of(era.first_batch), era);
                    prop_assert!(next.continues(&plan) && !plan.continues(&next));
                    plan = next;
                }
                for batch in unleased..(unleased + more).min(total) {
                    leased.push(plan.era_of(batch).catalog);
                    prop_assert!(plan.batches_of(batch).contains(&batch));
                    let until = plan.until(batch);
                    prop_assert_eq!(&plan.eras_from(batch)[0], plan.era_of(batch));
                    prop_assert_eq!(until.eras().last(), Some(plan.era_of(batch)));
                    prop_assert!(plan.continues(&until));
                }
                unleased = (unleased + more).min(total);
            }
            for (batch, &with) in leased.iter().enumerate() {
                prop_assert_eq!(plan.check(batch as u64, with), Ok(()));
            }
            let text = serde_json::to_string(&plan).unwrap();
            prop_assert_eq!(serde_json::from_str::<CatalogPlan>(&text).unwrap(), plan);
        }
    }

    #[test]
    fn a_change_is_refused_by_name_where_it_cannot_be_made() {
        let mut plan = CatalogPlan::new(catalog(0));
        let mut admit = |number, asked, unleased| {
            plan =
                plan.with_change(catalog(number), folder(), asked, unleased, 10).map_err(|error| error.to_string())?;
            Ok::<_, String>(plan.eras()[plan.eras().len() - 1].first_batch)
        };
        let short = |number| catalog(number).short();
        assert_eq!(admit(0, None, 3), Err(format!("the run has catalog {} already, from batch 0", short(0))));
        assert_eq!(admit(1, None, 4), Ok(4));
        assert_eq!(admit(2, None, 4), Ok(5), "the change before keeps its batch");
        let early = "batch 6 is too early for the change: batches below 7 may have been leased";
        assert_eq!(admit(1, Some(6), 7), Err(early.to_owned()));
        let late = "the change would begin with batch 10, the run has 10 batches";
        assert_eq!(admit(3, None, 10), Err(late.to_owned()));
        assert_eq!(admit(3, Some(10), 6), Err(late.to_owned()));
        let wrong = format!("batch 4 is made with catalog {}, got catalog {}", short(1), short(0));
        assert_eq!(plan.check(4, catalog(0)).unwrap_err().to_string(), wrong);
    }

    #[test]
    fn a_run_goes_on_with_what_was_to_come_and_with_nothing_that_its_checkpoint_contradicts() {
        let own = CatalogPlan::new(catalog(0));
        let changed = own.with_change(catalog(1), folder(), Some(5), 0, 9).unwrap();
        let resumed = |used: &CatalogPlan, kept: &CatalogPlan, batch| {
            CatalogPlan::resumed(used.clone(), Some(kept.clone()), batch)
        };
        assert_eq!(CatalogPlan::resumed(own.clone(), None, 3), own);
        assert_eq!(resumed(&own, &changed, 4), changed, "it is still to come");
        assert_eq!(resumed(&changed, &changed, 5), changed);
        assert_eq!(resumed(&changed, &own, 6), changed, "the checkpoint knows more");
        assert_eq!(resumed(&own, &changed, 5), own, "the checkpoint was made without it");
    }

    #[test]
    fn a_plan_that_was_written_by_someone_else_is_checked() {
        let era = |first_batch, number| Era { first_batch, catalog: catalog(number), folder: None };
        for eras in [vec![], vec![era(1, 0)], vec![era(0, 0), era(0, 1)], vec![era(0, 0), era(3, 0)]] {
            assert!(matches!(CatalogPlan::try_from(eras.clone()), Err(PlanError::Order { .. })), "{eras:?}");
        }
        assert!(CatalogPlan::try_from(vec![era(0, 0), era(3, 1), era(4, 0)]).is_ok());
    }
}
