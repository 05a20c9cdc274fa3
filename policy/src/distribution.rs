//! What the probabilities of all items say about one user: the exact rank of any item, the entropy, the mass on the best.

use crate::ranking::Ranked;
use riser_core::{ids::ItemIndex, metrics::Rank, prefix_tree::PrefixTree};

/// Every spelling of a catalog with its log-probability after one prompt, best first; ties go to the smaller node.
#[derive(Debug, Clone)]
pub struct Distribution {
    ranked: Vec<Ranked>,
    /// Log of the summed probability of all spellings, which itself may be too small for a number.
    log_mass: f64,
}

impl Distribution {
    /// From every leaf once, in any order.
    pub fn new(mut leaves: Vec<Ranked>) -> Self {
        leaves.sort_unstable_by(Ranked::order);
        let best = leaves.first().map_or(0.0, |ranked| ranked.score);
        let relative: f64 = leaves.iter().map(|ranked| (ranked.score - best).exp()).sum();
        Self { log_mass: best + relative.ln(), ranked: leaves }
    }

    /// The spellings, best first.
    pub fn ranked(&self) -> &[Ranked] {
        &self.ranked
    }

    /// Probability of the catalog as a whole: 1 in catalog space up to rounding, less in vocabulary space, where the rest is on
    /// tokens that lead to no item.
    pub fn mass(&self) -> f64 {
        self.log_mass.exp()
    }

    /// Shannon entropy over spellings in nats, of the distribution that [`mass`](Self::mass) normalises.
    pub fn entropy(&self) -> f64 {
        let of = |ranked: &Ranked| {
            let log_share = ranked.score - self.log_mass;
            let share = log_share.exp();
            if share > 0.0 { -share * log_share } else { 0.0 }
        };
        self.ranked.iter().map(of).sum()
    }

    /// Place of `item` among all items of the catalog, and the log-probability of its spelling; `None` if no spelling is its.
    ///
    /// Items that are spelled alike take consecutive ranks, as in [`items`](crate::ranking::items).
    pub fn place(&self, catalog: &PrefixTree, item: ItemIndex) -> Option<(Rank, f64)> {
        let leaf = catalog.leaf_of(item);
        let mut before = 0;
        for ranked in &self.ranked {
            let items = catalog.items_at(ranked.leaf);
            if ranked.leaf == leaf {
                let among = items.iter().position(|&other| other == item)?;
                return Some((Rank::new((before + among + 1) as u32)?, ranked.score));
            }
            before += items.len();
        }
        None
    }

    /// Share of the catalog's probability that the best `k` items have. Items that are spelled alike share theirs equally.
    pub fn share_of_best(&self, catalog: &PrefixTree, k: usize) -> f64 {
        let (mut left, mut sum) = (k, 0.0);
        for ranked in &self.ranked {
            let items = catalog.items_at(ranked.leaf).len();
            let taken = items.min(left);
            sum += (ranked.score - self.log_mass).exp() * taken as f64 / items as f64;
            left -= taken;
            if left == 0 {
                break;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items 0 and 3 are spelled alike.
    fn example() -> (PrefixTree, Distribution) {
        let catalog = PrefixTree::build(&[vec![1, 0], vec![2, 0], vec![3, 0], vec![1, 0]]).unwrap();
        let probabilities = [0.25, 0.125, 0.125];
        let leaves = probabilities.iter().enumerate().map(|(item, probability): (usize, &f64)| Ranked {
            leaf: catalog.leaf_of(ItemIndex(item as u32)),
            score: probability.ln(),
        });
        let distribution = Distribution::new(leaves.rev().collect());
        (catalog, distribution)
    }

    #[test]
    fn ranks_count_items_and_ties_go_to_the_smaller_node() {
        let (catalog, distribution) = example();
        let rank = |item| distribution.place(&catalog, ItemIndex(item)).unwrap().0.get();
        assert_eq!([0, 1, 2, 3].map(rank), [1, 3, 4, 2]);
        assert_eq!(distribution.place(&catalog, ItemIndex(2)).unwrap().1, 0.125f64.ln());
    }

    #[test]
    fn mass_entropy_and_shares_match_hand_computation() {
        let (catalog, distribution) = example();
        assert_eq!(distribution.mass(), 0.5);
        // Shares 1/2, 1/4, 1/4: 1.5 bits.
        assert!((distribution.entropy() - 1.5 * 2f64.ln()).abs() < 1e-12);
        let shares = [1, 2, 3, 4, 9].map(|k| distribution.share_of_best(&catalog, k));
        assert!(shares.iter().zip([0.25, 0.5, 0.75, 1.0, 1.0]).all(|(got, expected)| (got - expected).abs() < 1e-12));
    }

    #[test]
    fn a_spelling_without_probability_adds_nothing_to_the_entropy() {
        let leaf = riser_core::ids::NodeId;
        let leaves = vec![Ranked { leaf: leaf(1), score: 0.0 }, Ranked { leaf: leaf(2), score: f64::NEG_INFINITY }];
        assert_eq!(Distribution::new(leaves).entropy(), 0.0);
    }
}
