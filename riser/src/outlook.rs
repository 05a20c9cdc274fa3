//! What the probabilities of the whole catalog say about one row (method 5.3; the figures are our choice).

use crate::measurement::cutoffs;
use riser_core::ids::ItemIndex;
use riser_core::metrics::Rank;
use riser_core::prefix_tree::PrefixTree;
use riser_policy::distribution::Distribution;

/// One row, exactly.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// Place of the target among all items of the catalog.
    pub rank: Rank,
    /// Log-probability of the target's spelling.
    pub target_logprob: f64,
    /// Shannon entropy over spellings in nats.
    pub entropy: f64,
    /// Probability of the catalog as a whole; less than 1 in vocabulary space.
    pub mass: f64,
    /// Share of that probability on the best K items, for every cutoff up to the size of the catalog.
    shares: Vec<f64>,
    num_items: usize,
}

impl Outlook {
    /// Sums up a distribution over `catalog`; `None` if `target` has no place in it.
    pub fn of(distribution: &Distribution, catalog: &PrefixTree, target: ItemIndex) -> Option<Self> {
        let (rank, target_logprob) = distribution.place(catalog, target)?;
        let num_items = catalog.num_items();
        let share = |cutoff: u32| distribution.share_of_best(catalog, cutoff as usize);
        Some(Self {
            rank,
            target_logprob,
            entropy: distribution.entropy(),
            mass: distribution.mass(),
            shares: cutoffs(num_items).map(share).collect(),
            num_items,
        })
    }

    /// How deep ranks go.
    pub fn num_items(&self) -> usize {
        self.num_items
    }

    /// What is measured beside HR and NDCG, with one value per row:
    ///
    /// ```text
    /// MRR           1 / rank
    /// target nats   -log p(target)
    /// entropy nats  -sum_s q(s) log q(s) over spellings, q = p / mass
    /// catalog mass  sum_s p(s)
    /// mass@K        share of the mass on the best K items: what HR@K would be if the policy were calibrated
    /// ```
    pub fn columns(rows: &[Self]) -> Vec<(String, Vec<f64>)> {
        let Some(first) = rows.first() else { return vec![] };
        let column = |value: &dyn Fn(&Self) -> f64| rows.iter().map(value).collect::<Vec<f64>>();
        let mut columns = vec![
            ("MRR".to_owned(), column(&|row| 1.0 / f64::from(row.rank.get()))),
            ("target nats".to_owned(), column(&|row| -row.target_logprob)),
            ("entropy nats".to_owned(), column(&|row| row.entropy)),
            ("catalog mass".to_owned(), column(&|row| row.mass)),
        ];
        for (at, cutoff) in cutoffs(first.num_items).enumerate() {
            columns.push((format!("mass@{cutoff}"), column(&|row| row.shares[at])));
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use riser_policy::ranking::Ranked;

    #[test]
    fn the_columns_of_two_rows_match_hand_computation() {
        let items: Vec<Vec<u32>> = (1..7).map(|token| vec![token, 0]).collect();
        let catalog = PrefixTree::build(&items).unwrap();
        // Probabilities 1/2, 1/4, 1/8, 1/16, 1/32, 1/32.
        let leaves = (0..6).map(|item| Ranked {
            leaf: catalog.leaf_of(ItemIndex(item)),
            score: -f64::from((item + 1).min(5)) * 2f64.ln(),
        });
        let distribution = Distribution::new(leaves.collect());
        let rows = [0, 3].map(|target| Outlook::of(&distribution, &catalog, ItemIndex(target)).unwrap());
        let expected = [
            ("MRR", [1.0, 0.25]),
            ("target nats", [2f64.ln(), 4.0 * 2f64.ln()]),
            ("entropy nats", [1.9375 * 2f64.ln(); 2]),
            ("catalog mass", [1.0; 2]),
            ("mass@1", [0.5; 2]),
            ("mass@5", [31.0 / 32.0; 2]),
        ];
        let columns = Outlook::columns(&rows);
        assert_eq!(columns.len(), expected.len());
        for ((name, values), (expected_name, expected)) in columns.iter().zip(expected) {
            assert_eq!(name, expected_name);
            assert!(values.iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-12), "{name}");
        }
        assert!(Outlook::columns(&[]).is_empty());
    }
}
