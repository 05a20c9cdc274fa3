//! Which catalog each batch of a run is made with: a pure decision that coordinator and learner make alike.
//!
//! ```text
//! batch      0 1 2 3 4 5 6 7 ...
//! catalog    A A A B B B B C      eras (0, A), (3, B), (7, C)
//! ```
//!
//! A change is admitted at the first batch of which nothing has been leased, and from then on it is part of the run: one that
//! goes on from a checkpoint before it makes the same switch. So no batch mixes catalogs, and in lockstep a run with
//! changes is as reproducible as one without.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};

/// A catalog and the first batch that is made with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Era {
    /// First batch.
    pub first_batch: u64,
    /// The catalog.
    pub catalog: Digest,
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
        Self { eras: vec![Era { first_batch: 0, catalog }] }
    }

    /// All eras, ascending.
    pub fn eras(&self) -> &[Era] {
        &self.eras
    }

    /// The era of a batch.
    pub fn era_of(&self, batch: u64) -> Era {
        // The first era begins with batch 0, so there is one.
        self.eras[self.eras.partition_point(|era| era.first_batch <= batch) - 1]
    }

    /// The learner's gate: whether a group of `catalog` may be part of `batch`.
    ///
    /// # Errors
    /// [`WrongCatalog`] if not.
    pub fn check(&self, batch: u64, catalog: Digest) -> Result<(), WrongCatalog> {
        let expected = self.era_of(batch).catalog;
        if catalog == expected { Ok(()) } else { Err(WrongCatalog { batch, expected, got: catalog }) }
    }

    /// Admits a change to `catalog` while nothing of batch `first_unleased` and later ones has been leased, in a run of
    /// `total_batches`. Returns the era that it opens.
    ///
    /// # Errors
    /// [`PlanError::Same`] or [`PlanError::TooLate`]; the plan is as it was.
    pub fn admit(&mut self, catalog: Digest, first_unleased: u64, total_batches: u64) -> Result<Era, PlanError> {
        let last = self.eras[self.eras.len() - 1];
        if catalog == last.catalog {
            return Err(PlanError::Same { catalog, first_batch: last.first_batch });
        }
        // Every era keeps a batch, also one that has not begun: what was admitted before is not taken back.
        let first_batch = first_unleased.max(last.first_batch + 1);
        if first_batch >= total_batches {
            return Err(PlanError::TooLate { first_batch, total_batches });
        }
        let era = Era { first_batch, catalog };
        self.eras.push(era);
        Ok(era)
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
        match eras.first() {
            Some(Era { first_batch: 0, .. }) => {}
            first => return order(format!("the first begins with batch {:?}", first.map(|era| era.first_batch))),
        }
        match eras
            .windows(2)
            .find(|pair| pair[0].first_batch >= pair[1].first_batch || pair[0].catalog == pair[1].catalog)
        {
            Some(pair) => {
                let of = |era: Era| format!("catalog {} from batch {}", era.catalog.short(), era.first_batch);
                order(format!("{} comes before {}", of(pair[0]), of(pair[1])))
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

    proptest! {
        #[test]
        fn a_batch_keeps_the_catalog_that_it_was_leased_with_whatever_is_admitted_later(
            changes in prop::collection::vec((0u8..4, 0u64..5), 0..12), total in 1u64..40,
        ) {
            let mut plan = CatalogPlan::new(catalog(0));
            let (mut unleased, mut leased) = (0, vec![]);
            for (number, more) in changes {
                let before = plan.clone();
                match plan.admit(catalog(number), unleased, total) {
                    Ok(era) => {
                        prop_assert!(era.first_batch >= unleased && era.first_batch < total);
                        prop_assert_eq!(plan.era_of(era.first_batch), era);
                        prop_assert!(plan.continues(&before) && !before.continues(&plan));
                    }
                    Err(_) => prop_assert_eq!(&plan, &before),
                }
                for batch in unleased..(unleased + more).min(total) {
                    leased.push(plan.era_of(batch).catalog);
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
        let mut admit = |number, unleased| plan.admit(catalog(number), unleased, 10).map_err(|error| error.to_string());
        let short = |number| catalog(number).short();
        assert_eq!(admit(0, 3), Err(format!("the run has catalog {} already, from batch 0", short(0))));
        assert_eq!(admit(1, 4).map(|era| era.first_batch), Ok(4));
        assert_eq!(admit(2, 4).map(|era| era.first_batch), Ok(5), "the change before keeps its batch");
        let late = "the change would begin with batch 10, the run has 10 batches";
        assert_eq!(admit(3, 10), Err(late.to_owned()));
        let wrong = format!("batch 4 is made with catalog {}, got catalog {}", short(1), short(0));
        assert_eq!(plan.check(4, catalog(0)).unwrap_err().to_string(), wrong);
    }

    #[test]
    fn a_plan_that_was_written_by_someone_else_is_checked() {
        let era = |first_batch, number| Era { first_batch, catalog: catalog(number) };
        for eras in [vec![], vec![era(1, 0)], vec![era(0, 0), era(0, 1)], vec![era(0, 0), era(3, 0)]] {
            assert!(matches!(CatalogPlan::try_from(eras.clone()), Err(PlanError::Order { .. })), "{eras:?}");
        }
        assert!(CatalogPlan::try_from(vec![era(0, 0), era(3, 1), era(4, 0)]).is_ok());
    }
}
