//! Oversampling and de-duplication: which of the m drawn samples form the group of n (method 1.6).

use crate::{ids::NodeId, random::Seed};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which distinct items are kept when there are more than the group holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// In order of first appearance, which is exact sequential sampling without replacement (our choice).
    FirstSeen,
    /// Uniformly among the distinct items; over-represents rare ones.
    Uniform,
    /// Most often drawn first, ties by first appearance.
    ByCount,
}

/// What fills the group when there are fewer distinct items than it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// The remaining samples in draw order, so multiplicities follow the policy (our choice).
    Appearance,
    /// One more copy of each item that was drawn again, most often drawn first, round after round.
    RoundRobinByCount,
    /// Nothing: the group is smaller, down to the two completions a group must have.
    None,
}

/// The settings of de-duplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Completions of the group, n.
    pub group: usize,
    /// See [`Pick`].
    pub pick: Pick,
    /// See [`Fill`].
    pub fill: Fill,
    /// Whether a sampled hit is always kept (our choice; acts only with more than n distinct items).
    pub keep_hit: bool,
}

impl Selection {
    /// Positions of the kept samples, ascending.
    ///
    /// `leaves` are the sampled items in draw order, `hit` is the target's leaf; `seed` and `group` key the uniform pick.
    pub fn select(&self, leaves: &[NodeId], hit: NodeId, seed: Seed, group: u64) -> Vec<usize> {
        let mut draws: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        leaves.iter().enumerate().for_each(|(sample, &leaf)| draws.entry(leaf).or_default().push(sample));
        let mut distinct: Vec<&[usize]> = draws.values().map(Vec::as_slice).collect();
        distinct.sort_by_key(|samples| samples[0]);
        let by_count = |items: &mut Vec<&[usize]>| items.sort_by_key(|samples| std::cmp::Reverse(samples.len()));
        if distinct.len() > self.group {
            match self.pick {
                Pick::FirstSeen => {}
                Pick::Uniform => distinct.shuffle(&mut seed.stream("pick", &[group])),
                Pick::ByCount => by_count(&mut distinct),
            }
            let hit = draws.get(&hit).map(|samples| samples[0]).filter(|_| self.keep_hit);
            let mut kept: Vec<usize> = distinct[..self.group].iter().map(|samples| samples[0]).collect();
            if let Some(hit) = hit.filter(|hit| !kept.contains(hit)) {
                kept[self.group - 1] = hit;
            }
            kept.sort_unstable();
            return kept;
        }
        let mut kept: Vec<usize> = distinct.iter().map(|samples| samples[0]).collect();
        let spare: Vec<usize> = match self.fill {
            Fill::Appearance => (0..leaves.len()).filter(|sample| !kept.contains(sample)).collect(),
            Fill::RoundRobinByCount => {
                by_count(&mut distinct);
                let most = distinct.first().map_or(0, |samples| samples.len());
                (1..most)
                    .flat_map(|round| distinct.iter().filter_map(move |samples| samples.get(round)).copied())
                    .collect()
            }
            // A group of one has no contrast: the smallest group repeats its only item.
            Fill::None => (0..leaves.len())
                .filter(|sample| !kept.contains(sample))
                .take(2_usize.saturating_sub(kept.len()))
                .collect(),
        };
        kept.extend(spare.into_iter().take(self.group - kept.len()));
        kept.sort_unstable();
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(nodes: &[u32]) -> Vec<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn select(selection: Selection, nodes: &[u32], hit: u32) -> Vec<u32> {
        selection.select(&leaves(nodes), NodeId(hit), Seed(1), 0).into_iter().map(|sample| nodes[sample]).collect()
    }

    const DEFAULT: Selection = Selection { group: 4, pick: Pick::FirstSeen, fill: Fill::Appearance, keep_hit: true };

    #[test]
    fn distinct_items_come_first_and_duplicates_only_fill() {
        assert_eq!(select(DEFAULT, &[7, 7, 7, 8, 9], 1), [7, 7, 8, 9]);
        assert_eq!(select(DEFAULT, &[7, 8, 7, 9, 5, 6], 1), [7, 8, 9, 5]);
        assert_eq!(select(Selection { fill: Fill::None, ..DEFAULT }, &[7, 7, 7, 8, 8], 1), [7, 8]);
        assert_eq!(select(Selection { fill: Fill::None, ..DEFAULT }, &[7, 7, 7], 1), [7, 7]);
        assert_eq!(
            select(Selection { fill: Fill::RoundRobinByCount, ..DEFAULT }, &[7, 8, 8, 7, 8, 8], 1),
            [7, 8, 8, 7]
        );
    }

    #[test]
    fn a_sampled_hit_is_not_dropped_by_the_pick() {
        assert_eq!(select(DEFAULT, &[1, 2, 3, 4, 5], 5), [1, 2, 3, 5]);
        assert_eq!(select(Selection { keep_hit: false, ..DEFAULT }, &[1, 2, 3, 4, 5], 5), [1, 2, 3, 4]);
        assert_eq!(select(Selection { pick: Pick::ByCount, ..DEFAULT }, &[1, 2, 3, 4, 5, 5], 9), [1, 2, 3, 5]);
    }

    proptest! {
        #[test]
        fn a_group_is_full_unless_told_otherwise_and_keeps_every_distinct_item_it_can(
            nodes in prop::collection::vec(0_u32..12, 5..30), hit in 0_u32..12, group in 2_usize..8, keep_hit: bool,
            pick in prop::sample::select(vec![Pick::FirstSeen, Pick::Uniform, Pick::ByCount]),
            fill in prop::sample::select(vec![Fill::Appearance, Fill::RoundRobinByCount]),
        ) {
            prop_assume!(nodes.len() >= group);
            let kept = Selection { group, pick, fill, keep_hit }.select(&leaves(&nodes), NodeId(hit), Seed(1), 3);
            prop_assert_eq!(kept.len(), group);
            prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            let distinct = |items: Vec<u32>| items.into_iter().collect::<std::collections::BTreeSet<_>>();
            let kept_items = distinct(kept.iter().map(|&sample| nodes[sample]).collect());
            let all_items = distinct(nodes.clone());
            prop_assert_eq!(kept_items.len(), all_items.len().min(group));
            prop_assert!(!keep_hit || !all_items.contains(&hit) || kept_items.contains(&hit));
        }
    }
}
