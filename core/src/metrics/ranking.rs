//! HR@K and NDCG@K.

use crate::ids::ItemIndex;
use serde::{Deserialize, Serialize};
use std::{fmt, num::NonZeroU32};

/// Position of the target in a ranked list; the best is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(NonZeroU32);

impl Rank {
    /// The rank with that number; `None` for 0.
    pub fn new(rank: u32) -> Option<Self> {
        NonZeroU32::new(rank).map(Self)
    }

    /// The rank of `target` in a list, best first; the first match counts, `None` if there is none.
    ///
    /// Items are compared by id, so an item with the same title is another item.
    pub fn of(target: ItemIndex, ranked: &[ItemIndex]) -> Option<Self> {
        let position = ranked.iter().position(|&item| item == target)?;
        Self::new(u32::try_from(position + 1).ok()?)
    }

    /// The number, from 1.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// A ranking metric of one row, from 0 to 1.
///
/// ```text
/// HR@K    1 if rank <= K, else 0
/// NDCG@K  1 / log2(rank + 1) if rank <= K, else 0        (one relevant item, so the ideal gain is 1)
/// ```
///
/// (method 2.6.) A target that was not ranked scores 0.
///
/// ```
/// use riser_core::metrics::{Metric, Rank};
///
/// assert_eq!(Metric::Ndcg.value(Rank::new(3), 10), 0.5);
/// assert_eq!(Metric::HitRatio.value(None, 10), 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Hit ratio.
    HitRatio,
    /// Normalised discounted cumulative gain.
    Ndcg,
}

impl Metric {
    /// Both metrics, in the order of reports.
    pub const ALL: [Self; 2] = [Self::HitRatio, Self::Ndcg];

    /// The metric of one row at a cutoff.
    pub fn value(self, rank: Option<Rank>, cutoff: u32) -> f64 {
        match rank {
            Some(rank) if rank.get() <= cutoff => match self {
                Self::HitRatio => 1.0,
                Self::Ndcg => 1.0 / (f64::from(rank.get()) + 1.0).log2(),
            },
            _ => 0.0,
        }
    }

    /// The metric of every row at a cutoff.
    ///
    /// # Shapes
    /// - `ranks`: `[rows]`; returns `[rows]`
    pub fn values(self, ranks: &[Option<Rank>], cutoff: u32) -> Vec<f64> {
        ranks.iter().map(|&rank| self.value(rank, cutoff)).collect()
    }

    /// The mean over rows at a cutoff; `None` without rows.
    pub fn mean(self, ranks: &[Option<Rank>], cutoff: u32) -> Option<f64> {
        let sum: f64 = ranks.iter().map(|&rank| self.value(rank, cutoff)).sum();
        (!ranks.is_empty()).then(|| sum / ranks.len() as f64)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::HitRatio => "HR",
            Self::Ndcg => "NDCG",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_counts_from_one_and_goes_by_item_id() {
        let ranked = [4, 7, 1, 7].map(ItemIndex);
        assert_eq!(Rank::of(ItemIndex(4), &ranked), Rank::new(1));
        assert_eq!(Rank::of(ItemIndex(7), &ranked), Rank::new(2));
        assert_eq!(Rank::of(ItemIndex(9), &ranked), None);
        assert_eq!(Rank::new(0), None);
    }

    #[test]
    fn hit_ratio_and_ndcg_match_hand_computation() {
        let ranks = [Rank::new(1), Rank::new(3), Rank::new(11), None];
        assert_eq!(Metric::HitRatio.mean(&ranks, 1), Some(0.25));
        assert_eq!(Metric::HitRatio.mean(&ranks, 10), Some(0.5));
        assert_eq!(Metric::HitRatio.mean(&ranks, 11), Some(0.75));
        assert_eq!(Metric::Ndcg.mean(&ranks, 10), Some((1.0 + 0.5) / 4.0));
        let at_eleven = 1.0 / 12f64.log2();
        assert!((Metric::Ndcg.mean(&ranks, 20).unwrap() - (1.5 + at_eleven) / 4.0).abs() < 1e-15);
        assert_eq!(Metric::Ndcg.mean(&[], 20), None);
    }

    #[test]
    fn ndcg_never_exceeds_hit_ratio_and_both_grow_with_the_cutoff() {
        for rank in (1..60).map(Rank::new) {
            for cutoff in 1..60 {
                assert!(Metric::Ndcg.value(rank, cutoff) <= Metric::HitRatio.value(rank, cutoff));
                for metric in Metric::ALL {
                    assert!(metric.value(rank, cutoff) <= metric.value(rank, cutoff + 1));
                }
            }
        }
    }
}
