//! The exact top K of the whole catalog by best-first search, for a batch of users.
//!
//! A node's log-probability bounds everything below it in both spaces, because no token has a log-probability above 0. So
//! the search pops the best open nodes until K items are closed that no open node can beat (method 5.3). In catalog space a
//! child that only forced tokens follow is its item, and closes with the choice that offers it.

use crate::{
    descent::{Arrival, Descent, Visit},
    inference::Inference,
    kernels::score::Law,
    ranking::Ranked,
    runs::closes_at,
};
use candle_core::Result;
use riser_core::{ids::NodeId, logprob_space::LogprobSpace, prefix_tree::PrefixTree};
use std::{cmp::Ordering, collections::BinaryHeap};

/// Open nodes expanded per user and round: 3 % more rows than one by one, in a tenth of the passes (games, K = 20).
const EXPANDED_PER_ROUND: usize = 12;

/// The `k` most probable items after each prompt, best first; ties go to the smaller node. Exact.
///
/// Fewer are returned only if the catalog has fewer spellings.
///
/// # Errors
/// Whatever candle reports.
pub fn top_k(
    inference: &Inference,
    catalog: &PrefixTree,
    space: LogprobSpace,
    prompts: &[&[u32]],
    k: usize,
) -> Result<Vec<Vec<Ranked>>> {
    inference.in_lanes(prompts, |prompt| prompt.len(), |prompts| top_k_of_lane(inference, catalog, space, prompts, k))
}

fn top_k_of_lane(
    inference: &Inference,
    catalog: &PrefixTree,
    space: LogprobSpace,
    prompts: &[&[u32]],
    k: usize,
) -> Result<Vec<Vec<Ranked>>> {
    let (mut descent, roots) = Descent::start(inference, catalog, Law { space, temperature: 1.0 }, prompts)?;
    let mut searches: Vec<Search<'_>> = roots.into_iter().map(|root| Search::new(catalog, space, k, root)).collect();
    loop {
        let (mut visits, mut bounds) = (vec![], vec![]);
        for (tree, search) in searches.iter_mut().enumerate() {
            for open in search.most_promising() {
                visits.push(Visit { tree, from: open.from, node: open.node });
                bounds.push(open.score);
            }
        }
        if visits.is_empty() {
            return Ok(searches.into_iter().map(|search| search.closed).collect());
        }
        for ((visit, bound), arrival) in visits.iter().zip(bounds).zip(descent.expand(&visits)?) {
            searches[visit.tree].arrive(visit.node, bound, &arrival);
        }
    }
}

/// A node whose state has not been computed.
#[derive(Debug, Clone, Copy)]
struct Open {
    score: f64,
    node: NodeId,
    from: u32,
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}

/// The search for one user.
struct Search<'c> {
    catalog: &'c PrefixTree,
    space: LogprobSpace,
    k: usize,
    open: BinaryHeap<Open>,
    /// Closed leaves, best first, at most `k`.
    closed: Vec<Ranked>,
}

impl<'c> Search<'c> {
    fn new(catalog: &'c PrefixTree, space: LogprobSpace, k: usize, root: Arrival) -> Self {
        let mut search = Self { catalog, space, k, open: BinaryHeap::new(), closed: vec![] };
        search.arrive(PrefixTree::ROOT, 0.0, &root);
        search
    }

    /// What a node must reach to matter. One that only equals it could still win a tie.
    fn cutoff(&self) -> f64 {
        if self.closed.len() < self.k { f64::NEG_INFINITY } else { self.closed[self.k - 1].score }
    }

    /// Takes the open nodes that may still hold one of the top K.
    fn most_promising(&mut self) -> Vec<Open> {
        let cutoff = self.cutoff();
        let mut promising = vec![];
        while promising.len() < EXPANDED_PER_ROUND && self.open.peek().is_some_and(|open| open.score >= cutoff) {
            promising.extend(self.open.pop());
        }
        promising
    }

    fn arrive(&mut self, visited: NodeId, bound: f64, arrival: &Arrival) {
        let score = arrival.forced.iter().fold(bound, |score, step| score + f64::from(step.logprob));
        let Some(choice) = &arrival.choice else {
            let leaf = arrival.forced.last().map_or(visited, |step| step.node);
            return self.close(leaf, score);
        };
        let children = self.catalog.children(choice.node);
        for (k, logprob) in choice.logprobs().enumerate() {
            let (node, score) = (children.node(k), score + f64::from(logprob));
            if score < self.cutoff() {
                continue;
            }
            match closes_at(self.catalog, self.space, node) {
                Some(leaf) => self.close(leaf, score),
                None => self.open.push(Open { score, node, from: choice.row }),
            }
        }
    }

    fn close(&mut self, leaf: NodeId, score: f64) {
        Ranked { leaf, score }.insert_into(&mut self.closed, self.k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exact::item_logprobs,
        parameters::Parameters,
        testing::{tiny_catalog, tiny_shape},
    };
    use candle_core::Device;
    use riser_core::random::Seed;

    #[test]
    fn the_top_k_equals_sorting_the_whole_catalog_in_both_spaces() {
        let catalog = tiny_catalog();
        for seed in 0..5 {
            let inference =
                Parameters::initialise(&tiny_shape(), Seed(seed), &Device::Cpu).unwrap().inference().unwrap();
            let prompts: Vec<&[u32]> = vec![&[1, 9, 4, 17], &[1, 3], &[1, 20, 21, 22, 6]];
            for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
                for k in [1, 4, 20] {
                    let found = top_k(&inference, &catalog, space, &prompts, k).unwrap();
                    for (prompt, found) in prompts.iter().zip(found) {
                        let exact = item_logprobs(inference.model(), &catalog, prompt, space, 1.0).unwrap();
                        let mut leaves: Vec<(f32, NodeId)> = (0..catalog.num_nodes() as u32)
                            .filter_map(|node| {
                                Some((exact[catalog.items_at(NodeId(node)).first()?.0 as usize], NodeId(node)))
                            })
                            .collect();
                        leaves.sort_by(|a, b| b.0.total_cmp(&a.0));
                        assert_eq!(found.len(), k.min(leaves.len()));
                        for (found, (score, leaf)) in found.iter().zip(leaves) {
                            assert_eq!(found.leaf, leaf);
                            assert!((found.score - f64::from(score)).abs() < 1e-4);
                        }
                    }
                }
            }
        }
    }
}
