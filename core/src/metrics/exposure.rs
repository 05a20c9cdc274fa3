//! What part of the catalog is recommended, and how evenly.

use super::MetricsError;
use crate::ids::ItemIndex;

/// How often each item of a catalog was recommended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// `[items]` number of recommendations.
    counts: Vec<u64>,
}

impl Exposure {
    /// Nothing recommended yet, from a catalog of that many items.
    pub fn new(num_items: usize) -> Self {
        Self { counts: vec![0; num_items] }
    }

    /// Counts one list of recommendations.
    ///
    /// # Errors
    /// [`MetricsError::UnknownItem`] for an item outside the catalog; nothing is counted then.
    pub fn record(&mut self, recommended: &[ItemIndex]) -> Result<(), MetricsError> {
        let num_items = self.counts.len();
        if let Some(&item) = recommended.iter().find(|item| item.0 as usize >= num_items) {
            return Err(MetricsError::UnknownItem { item, num_items });
        }
        recommended.iter().for_each(|item| self.counts[item.0 as usize] += 1);
        Ok(())
    }

    /// Share of the catalog that was recommended at least once; 0 for an empty catalog.
    pub fn coverage(&self) -> f64 {
        let num_shown = self.counts.iter().filter(|&&count| count > 0).count();
        if self.counts.is_empty() { 0.0 } else { num_shown as f64 / self.counts.len() as f64 }
    }

    /// The Gini index of the counts over the whole catalog; 0 if nothing was recommended.
    ///
    /// ```text
    /// G = sum_i (2 i - n - 1) c_i / (n sum_i c_i),   c ascending, i = 1..n
    /// ```
    ///
    /// It is 0 if every item is shown alike and `1 - 1/n` if only one item is.
    pub fn gini(&self) -> f64 {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return 0.0;
        }
        let mut sorted = self.counts.clone();
        sorted.sort_unstable();
        let n = sorted.len() as f64;
        let weighted: f64 =
            sorted.iter().enumerate().map(|(index, &count)| (2.0 * index as f64 + 1.0 - n) * count as f64).sum();
        weighted / (n * total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure(counts: &[u64]) -> Exposure {
        Exposure { counts: counts.to_vec() }
    }

    #[test]
    fn coverage_counts_items_once() {
        let mut shown = Exposure::new(4);
        shown.record(&[1, 3, 1].map(ItemIndex)).unwrap();
        shown.record(&[1].map(ItemIndex)).unwrap();
        assert_eq!(shown, exposure(&[0, 3, 0, 1]));
        assert_eq!(shown.coverage(), 0.5);
    }

    #[test]
    fn gini_matches_hand_computation() {
        assert_eq!(exposure(&[5, 5, 5]).gini(), 0.0);
        assert_eq!(exposure(&[0, 0, 8, 0]).gini(), 0.75);
        // mean absolute difference over twice the mean: (2 * (1 + 2 + 1)) / 9 / (2 * 2)
        assert!((exposure(&[3, 1, 2]).gini() - 2.0 / 9.0).abs() < 1e-15);
        assert_eq!((exposure(&[0, 0]).gini(), exposure(&[]).gini(), exposure(&[]).coverage()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn an_item_outside_the_catalog_is_refused_and_counts_nothing() {
        let mut shown = Exposure::new(2);
        let error = shown.record(&[0, 2].map(ItemIndex)).unwrap_err();
        assert_eq!(error, MetricsError::UnknownItem { item: ItemIndex(2), num_items: 2 });
        assert_eq!(shown, Exposure::new(2));
    }
}
