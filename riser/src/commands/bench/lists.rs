//! Ranked lists beside the true ones.

use riser_core::ids::{ItemIndex, NodeId};
use riser_core::prefix_tree::PrefixTree;
use riser_policy::ranking::Ranked;
use serde::{Deserialize, Serialize};

/// Nats by which scores must differ to matter: sums over an item's tokens, rounded differently by other programs.
const TOLERANCE: f64 = 1e-3;

/// An entry of a list that another program wrote.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    item: u32,
    score: f64,
}

impl Entry {
    /// The spelling; `None` if the catalog has no such item.
    pub(super) fn ranked(&self, catalog: &PrefixTree) -> Option<Ranked> {
        let is_item = (self.item as usize) < catalog.num_items();
        is_item.then(|| Ranked { leaf: catalog.leaf_of(ItemIndex(self.item)), score: self.score })
    }
}

/// How lists differ from the true ones, as shares of users.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Differences {
    /// Lists that lack an item of the true top K.
    wrong_set: f64,
    /// Lists with other items or in another order.
    wrong_order: f64,
    /// Lists without the most probable item.
    without_best: f64,
    /// Share of the true top K that is in the list, mean over users.
    found: f64,
    /// Largest difference in nats between the scores of one spelling: whether both rank by the same law.
    largest_score_difference: f64,
}

impl Differences {
    /// Of at least one list.
    pub(super) fn of(lists: &[Vec<Ranked>], exact: &[Vec<Ranked>]) -> Self {
        let users = exact.len() as f64;
        let share = |wrong: &dyn Fn(&[Ranked], &[Ranked]) -> bool| {
            lists.iter().zip(exact).filter(|(list, exact)| wrong(list, exact)).count() as f64 / users
        };
        let found = |list: &[Ranked], exact: &[Ranked]| {
            exact.iter().filter(|ranked| score_in(list, ranked.leaf).is_some()).count() as f64 / exact.len() as f64
        };
        let differences = lists.iter().zip(exact).flat_map(|(list, exact)| {
            exact.iter().filter_map(|ranked| Some((score_in(list, ranked.leaf)? - ranked.score).abs()))
        });
        Self {
            wrong_set: share(&is_wrong_set),
            wrong_order: share(&is_wrong_order),
            without_best: share(&|list, exact| score_in(list, exact[0].leaf).is_none()),
            found: lists.iter().zip(exact).map(|(list, exact)| found(list, exact)).sum::<f64>() / users,
            largest_score_difference: differences.fold(0.0, f64::max),
        }
    }

    /// Cells of a table, below [`HEADER`](Self::HEADER).
    pub(super) fn cells(&self, name: &str) -> Vec<String> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        vec![
            name.to_owned(),
            percent(self.wrong_set),
            percent(self.wrong_order),
            percent(self.without_best),
            percent(self.found),
            format!("{:.1e}", self.largest_score_difference),
        ]
    }

    pub(super) const HEADER: [&str; 6] = [
        "beside the exact lists",
        "not the top K",
        "nor its order",
        "without the best",
        "of the top K found",
        "nats apart",
    ];
}

fn score_in(list: &[Ranked], leaf: NodeId) -> Option<f64> {
    list.iter().find(|ranked| ranked.leaf == leaf).map(|ranked| ranked.score)
}

/// Whether an item that the list lacks is better than one that it has instead.
fn is_wrong_set(list: &[Ranked], exact: &[Ranked]) -> bool {
    let lacking = exact.iter().filter(|ranked| score_in(list, ranked.leaf).is_none()).map(|ranked| ranked.score);
    let instead = list.iter().filter(|ranked| score_in(exact, ranked.leaf).is_none()).map(|ranked| ranked.score);
    let (best, worst) = (lacking.fold(f64::NEG_INFINITY, f64::max), instead.fold(f64::INFINITY, f64::min));
    list.len() < exact.len() || best > worst + TOLERANCE
}

fn is_wrong_order(list: &[Ranked], exact: &[Ranked]) -> bool {
    let differ = |(a, b): (&Ranked, &Ranked)| (a.score - b.score).abs() > TOLERANCE;
    is_wrong_set(list, exact) || list.iter().zip(exact).any(differ)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u32, f64)]) -> Vec<Ranked> {
        entries.iter().map(|&(leaf, score)| Ranked { leaf: NodeId(leaf), score }).collect()
    }

    #[test]
    fn a_lost_item_a_swap_and_a_tie_are_told_apart() {
        let exact = list(&[(1, -1.0), (2, -2.0), (3, -3.0)]);
        let lists = [
            list(&[(1, -1.0), (2, -2.0), (3, -3.0)]),
            list(&[(1, -1.0), (3, -3.0), (2, -2.0)]),
            list(&[(2, -2.0), (3, -3.0), (4, -4.0)]),
            // As good as the third, but for rounding.
            list(&[(1, -1.0), (2, -2.0), (5, -3.0001)]),
        ];
        let differences = Differences::of(&lists, &vec![exact.clone(); 4]);
        assert_eq!((differences.wrong_set, differences.wrong_order, differences.without_best), (0.25, 0.5, 0.25));
        assert!((differences.found - (1.0 + 1.0 + 2.0 / 3.0 + 2.0 / 3.0) / 4.0).abs() < 1e-12);
        let short = Differences::of(&[list(&[(1, -1.5)])], &[exact]);
        assert_eq!((short.wrong_set, short.largest_score_difference), (1.0, 0.5));
    }
}
