//! The log-probability of every item of the catalog, exactly (method 5.3: known; the pieces are our choice).
//!
//! In catalog space forced tails cost nothing, so only the **core tree** is computed: nodes that are branching or lead to one
//! that is. In vocabulary space forced tokens have probabilities too, and every node but the leaves is computed.
//!
//! Nodes are taken depth first in **pieces** of at most `ROWS_PER_PIECE` rows. Each piece is a descent of its own, level by
//! level, that computes the prompt and the few nodes above the piece again; with its end all its keys and values are freed.
//! So the cache of a call has at most `ROWS_PER_PIECE + prompts (prompt length + depth of the tree)` rows, whatever the size of the
//! catalog; what grows with the catalog is the answer, 16 bytes a leaf, and the plan, 12 bytes a visited branch.

use crate::{
    descent::{Arrival, Choice, Descent, Visit},
    inference::Inference,
    kernels::score::Law,
    ranking::Ranked,
    runs::{closes_at, rows_behind},
};
use candle_core::Result;
use riser_core::{ids::NodeId, logprob_space::LogprobSpace, prefix_tree::PrefixTree};
use std::ops::Range;

/// Rows of a piece: so many that the prompt, computed anew for each, is a small share.
const ROWS_PER_PIECE: usize = 4096;

/// Parent of a node that is entered from the root's choice.
const AT_ROOT: u32 = u32::MAX;

/// The nodes of a catalog that the whole distribution needs, in the order in which they are computed.
#[derive(Debug)]
pub struct CoreTree<'c> {
    catalog: &'c PrefixTree,
    space: LogprobSpace,
    /// Depth first.
    branches: Vec<Branch>,
    pieces: Vec<Range<usize>>,
    prompts_per_pass: usize,
}

/// A node entered by a choice, with its forced run.
#[derive(Debug, Clone, Copy)]
struct Branch {
    node: NodeId,
    /// Place of the branch that ends in the choice.
    parent: u32,
    /// Number of branches above.
    depth: u32,
}

/// A choice that was reached, with the log-probability of what leads there.
struct Reached {
    score: f64,
    choice: Choice,
}

impl<'c> CoreTree<'c> {
    /// Plans the pieces for one space.
    pub fn new(catalog: &'c PrefixTree, space: LogprobSpace) -> Self {
        Self::with_pieces(catalog, space, ROWS_PER_PIECE)
    }

    fn with_pieces(catalog: &'c PrefixTree, space: LogprobSpace, rows_per_piece: usize) -> Self {
        let (mut branches, mut pieces, mut rows, mut total) = (vec![], vec![Range::default()], 0, 0);
        let mut open = vec![];
        let below = |open: &mut Vec<Branch>, end: NodeId, parent: u32, depth: u32| {
            let children = catalog.children(end);
            let of_child = |k| Branch { node: children.node(k), parent, depth };
            open.extend((0..children.tokens.len()).rev().map(of_child));
        };
        below(&mut open, catalog.end_of_run(PrefixTree::ROOT), AT_ROOT, 0);
        while let Some(branch) = open.pop() {
            if closes_at(catalog, space, branch.node).is_some() {
                continue;
            }
            let cost = rows_behind(catalog, space, branch.node);
            if rows + cost > rows_per_piece && rows > 0 {
                pieces.push(branches.len()..branches.len());
                rows = 0;
            }
            (rows, total) = (rows + cost, total + cost);
            below(&mut open, catalog.end_of_run(branch.node), branches.len() as u32, branch.depth + 1);
            branches.push(branch);
            if let Some(piece) = pieces.last_mut() {
                piece.end = branches.len();
            }
        }
        Self { catalog, space, branches, pieces, prompts_per_pass: (rows_per_piece / total.max(1)).max(1) }
    }

    /// Prompts that one pass takes; more at a time only take more memory.
    pub fn prompts_per_pass(&self) -> usize {
        self.prompts_per_pass
    }

    /// Every leaf with its summed log-probability after each prompt, in no order that means anything.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn leaf_logprobs(&self, inference: &Inference, prompts: &[&[u32]]) -> Result<Vec<Vec<Ranked>>> {
        let mut all = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(self.prompts_per_pass) {
            let mut leaves: Vec<Vec<Ranked>> =
                prompts.iter().map(|_| Vec::with_capacity(self.catalog.num_leaves())).collect();
            for piece in &self.pieces {
                self.run(inference, piece, prompts, &mut leaves)?;
            }
            all.append(&mut leaves);
        }
        Ok(all)
    }

    /// Computes one piece for a few prompts.
    fn run(
        &self,
        inference: &Inference,
        piece: &Range<usize>,
        prompts: &[&[u32]],
        leaves: &mut [Vec<Ranked>],
    ) -> Result<()> {
        let law = Law { space: self.space, temperature: 1.0 };
        let (mut descent, roots) = Descent::start(inference, self.catalog, law, prompts)?;
        let is_first = piece.start == 0;
        let arrive = |score, arrival, leaves: Option<&mut Vec<Ranked>>| self.arrive(score, arrival, leaves);
        let roots: Vec<Option<Reached>> = roots
            .into_iter()
            .zip(leaves.iter_mut())
            .map(|(root, leaves)| arrive(0.0, root, is_first.then_some(leaves)))
            .collect();

        let above = self.above(piece);
        // Choices behind the branches above, then behind those of the piece; all prompts of a branch side by side.
        let mut reached: Vec<Option<Reached>> = vec![];
        reached.resize_with((above.len() + piece.len()) * prompts.len(), || None);
        let place = |branch: usize, tree: usize| {
            let at = branch.checked_sub(piece.start).map_or_else(
                || above.binary_search(&branch).expect("a piece has all branches above it"),
                |at| above.len() + at,
            );
            at * prompts.len() + tree
        };
        let mut order: Vec<usize> = above.iter().copied().chain(piece.clone()).collect();
        order.sort_by_key(|&branch| self.branches[branch].depth);
        for level in order.chunk_by(|&a, &b| self.branches[a].depth == self.branches[b].depth) {
            let (mut visits, mut scores) = (vec![], vec![]);
            for (tree, root) in roots.iter().enumerate() {
                for &branch in level {
                    let Branch { node, parent, .. } = self.branches[branch];
                    let from = if parent == AT_ROOT { root } else { &reached[place(parent as usize, tree)] };
                    let Reached { score, choice } = from.as_ref().expect("a branch starts at a choice");
                    let child = node.0 - self.catalog.children(choice.node).first.0;
                    scores.push(score + f64::from(choice.logprob(child as usize)));
                    visits.push(Visit { tree, from: choice.row, node });
                }
            }
            let arrivals = descent.expand(&visits)?;
            let branches = level.iter().copied().cycle();
            for (((visit, score), branch), arrival) in visits.iter().zip(scores).zip(branches).zip(arrivals) {
                let owned = piece.contains(&branch).then_some(&mut leaves[visit.tree]);
                reached[place(branch, visit.tree)] = self.arrive(score, arrival, owned);
            }
        }
        Ok(())
    }

    /// The branches above the first of a piece, ascending: those above any other are among these or in the piece.
    fn above(&self, piece: &Range<usize>) -> Vec<usize> {
        let parent = |&branch: &usize| Some(self.branches[branch].parent as usize).filter(|&at| at != AT_ROOT as usize);
        let first = (!piece.is_empty()).then_some(piece.start);
        let mut above: Vec<usize> = std::iter::successors(first, parent).skip(1).collect();
        above.reverse();
        above
    }

    /// Closes the leaves at the end of a run, or among the children of its choice, which is returned.
    fn arrive(&self, score: f64, arrival: Arrival, leaves: Option<&mut Vec<Ranked>>) -> Option<Reached> {
        let score = arrival.forced.iter().fold(score, |score, step| score + f64::from(step.logprob));
        let Some(choice) = arrival.choice else {
            let end = arrival.forced.last().map(|step| Ranked { leaf: step.node, score });
            leaves.into_iter().for_each(|leaves| leaves.extend(end));
            return None;
        };
        if let Some(leaves) = leaves {
            let children = self.catalog.children(choice.node);
            leaves.extend(choice.logprobs().enumerate().filter_map(|(k, logprob)| {
                let leaf = closes_at(self.catalog, self.space, children.node(k))?;
                Some(Ranked { leaf, score: score + f64::from(logprob) })
            }));
        }
        Some(Reached { score, choice })
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

    fn inference(seed: u64) -> Inference {
        Parameters::initialise(&tiny_shape(), Seed(seed), &Device::Cpu).unwrap().inference().unwrap()
    }

    #[test]
    fn every_leaf_is_scored_once_as_by_a_plain_pass_in_both_spaces_whatever_the_pieces() {
        let (inference, branching) = (inference(7), tiny_catalog());
        let alone = PrefixTree::build(&[vec![5, 6, 2]]).unwrap();
        let forced_start = PrefixTree::build(&[vec![5, 6, 7, 2], vec![5, 6, 9, 3, 2], vec![5, 6, 9, 4, 8, 2]]).unwrap();
        let prompts: [&[u32]; 3] = [&[1, 9, 4, 17], &[1, 3], &[1, 20, 21, 22, 6]];
        for catalog in [&branching, &alone, &forced_start] {
            for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
                for rows_per_piece in [1, 2, 3, 5, 1000] {
                    let core = CoreTree::with_pieces(catalog, space, rows_per_piece);
                    for (prompt, mut leaves) in prompts.iter().zip(core.leaf_logprobs(&inference, &prompts).unwrap()) {
                        let exact = item_logprobs(inference.model(), catalog, prompt, space, 1.0).unwrap();
                        leaves.sort_by_key(|ranked| ranked.leaf);
                        assert_eq!(leaves.len(), catalog.num_leaves());
                        assert!(leaves.is_sorted_by(|a, b| a.leaf < b.leaf));
                        for ranked in leaves {
                            let item = catalog.items_at(ranked.leaf)[0];
                            assert!((ranked.score - f64::from(exact[item.0 as usize])).abs() < 1e-4);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_probabilities_of_the_whole_catalog_sum_to_one_in_catalog_space() {
        let (catalog, inference) = (tiny_catalog(), inference(3));
        let prompts: [&[u32]; 2] = [&[1, 9, 4, 17], &[1, 3]];
        for rows_per_piece in [1, 1000] {
            let core = CoreTree::with_pieces(&catalog, LogprobSpace::Catalog, rows_per_piece);
            for leaves in core.leaf_logprobs(&inference, &prompts).unwrap() {
                let sum: f64 = leaves.iter().map(|ranked| ranked.score.exp()).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{sum}");
            }
        }
    }

    #[test]
    fn a_piece_computes_no_more_rows_than_it_may_beside_prompts_and_branches_above() {
        let catalog = tiny_catalog();
        for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
            let whole = CoreTree::with_pieces(&catalog, space, 1000);
            let rows = |branches: &[Branch]| -> usize {
                branches.iter().map(|branch| rows_behind(&catalog, space, branch.node)).sum()
            };
            for limit in 1..8 {
                let core = CoreTree::with_pieces(&catalog, space, limit);
                let pieces: Vec<&[Branch]> = core.pieces.iter().map(|piece| &core.branches[piece.clone()]).collect();
                assert!(pieces.iter().all(|piece| rows(piece) <= limit || piece.len() == 1));
                assert_eq!(pieces.iter().map(|piece| rows(piece)).sum::<usize>(), rows(&whole.branches));
            }
        }
    }
}
