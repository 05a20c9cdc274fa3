//! Constrained beam search, for comparison with what others report: it advances token by token, keeps the `width` best
//! unfinished prefixes, and may lose items that the exact search finds.
//!
//! As Hugging Face `generate` with `length_penalty = 0`: scores are summed log-probabilities, at each step the `2 width`
//! best candidates of all beams are looked at, finished ones among the first `width` are kept, and a prompt is done when no
//! unfinished beam beats the worst of `width` finished items.

use crate::{
    descent::{Arrival, Choice, Descent, Visit},
    kernels::score::Law,
    model::Model,
    ranking::Ranked,
    work::Work,
};
use candle_core::Result;
use riser_core::{ids::NodeId, logprob_space::LogprobSpace, prefix_tree::PrefixTree};
use std::{collections::VecDeque, rc::Rc};

/// Up to `width` finished items per prompt, best first.
///
/// # Errors
/// Whatever candle reports.
pub fn beam_search(
    model: &Model,
    catalog: &PrefixTree,
    space: LogprobSpace,
    prompts: &[&[u32]],
    width: usize,
) -> Result<Vec<Vec<Ranked>>> {
    beam_search_counted(model, catalog, space, prompts, width, &mut Work::default())
}

/// The same; adds what it cost to `work`.
///
/// # Errors
/// Whatever candle reports.
pub fn beam_search_counted(
    model: &Model,
    catalog: &PrefixTree,
    space: LogprobSpace,
    prompts: &[&[u32]],
    width: usize,
    work: &mut Work,
) -> Result<Vec<Vec<Ranked>>> {
    let (mut descent, roots) = Descent::start(model, catalog, Law { space, temperature: 1.0 }, prompts)?;
    work.start(catalog, space, prompts);
    let mut searches: Vec<Search<'_>> = roots.into_iter().map(|root| Search::new(catalog, width, root)).collect();
    loop {
        let mut visits = vec![];
        for (tree, search) in searches.iter_mut().enumerate() {
            search.advance();
            visits.extend(search.unexpanded().map(|(from, node)| Visit { tree, from, node }));
        }
        work.expand(catalog, space, &visits);
        let mut arrivals = if visits.is_empty() { vec![] } else { descent.expand(&visits)? }.into_iter();
        for search in &mut searches {
            search.arrive(&mut arrivals);
        }
        if searches.iter().all(|search| search.beams.is_empty()) {
            return Ok(searches.into_iter().map(|search| search.finished).collect());
        }
    }
}

/// An unfinished prefix.
#[derive(Clone)]
struct Beam {
    score: f64,
    node: NodeId,
    ahead: Ahead,
}

/// What is known behind a beam's node.
#[derive(Clone)]
enum Ahead {
    /// The state has not been computed: it follows the state at this row.
    Unknown(u32),
    /// Forced tokens, then a choice or the leaf that the last forced token enters.
    Known { forced: VecDeque<(NodeId, f32)>, choice: Option<Rc<Choice>> },
}

impl From<Arrival> for Ahead {
    fn from(arrival: Arrival) -> Self {
        let forced = arrival.forced.iter().map(|step| (step.node, step.logprob)).collect();
        Self::Known { forced, choice: arrival.choice.map(Rc::new) }
    }
}

struct Search<'c> {
    catalog: &'c PrefixTree,
    width: usize,
    beams: Vec<Beam>,
    /// Best first.
    finished: Vec<Ranked>,
}

impl<'c> Search<'c> {
    fn new(catalog: &'c PrefixTree, width: usize, root: Arrival) -> Self {
        let root = Beam { score: 0.0, node: PrefixTree::ROOT, ahead: root.into() };
        Self { catalog, width, beams: vec![root], finished: vec![] }
    }

    /// All one-token continuations of a beam.
    fn continuations(&self, beam: &Beam) -> Vec<Beam> {
        let Ahead::Known { forced, choice } = &beam.ahead else {
            unreachable!("every beam is expanded before it advances");
        };
        if let Some(&(node, logprob)) = forced.front() {
            let ahead = Ahead::Known { forced: forced.iter().skip(1).copied().collect(), choice: choice.clone() };
            return vec![Beam { score: beam.score + f64::from(logprob), node, ahead }];
        }
        let Some(choice) = choice else {
            return vec![];
        };
        let children = self.catalog.children(choice.node);
        let child = |(k, &logprob): (usize, &f32)| Beam {
            score: beam.score + f64::from(logprob),
            node: children.node(k),
            ahead: Ahead::Unknown(choice.row),
        };
        choice.logprobs.iter().enumerate().map(child).collect()
    }

    /// One token for every beam.
    fn advance(&mut self) {
        let mut candidates: Vec<Beam> = self.beams.iter().flat_map(|beam| self.continuations(beam)).collect();
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.node.cmp(&b.node)));
        candidates.truncate(2 * self.width);
        self.beams.clear();
        for (rank, candidate) in candidates.into_iter().enumerate() {
            if self.beams.len() == self.width {
                break;
            }
            if !self.catalog.is_leaf(candidate.node) {
                self.beams.push(candidate);
            } else if rank < self.width {
                Ranked { leaf: candidate.node, score: candidate.score }.insert_into(&mut self.finished, self.width);
            }
        }
        let best = self.beams.first().map_or(f64::NEG_INFINITY, |beam| beam.score);
        if self.finished.len() == self.width && self.finished[self.width - 1].score >= best {
            self.beams.clear();
        }
    }

    fn unexpanded(&self) -> impl Iterator<Item = (u32, NodeId)> + '_ {
        self.beams.iter().filter_map(|beam| match beam.ahead {
            Ahead::Unknown(row) => Some((row, beam.node)),
            Ahead::Known { .. } => None,
        })
    }

    fn arrive(&mut self, arrivals: &mut impl Iterator<Item = Arrival>) {
        for beam in &mut self.beams {
            if matches!(beam.ahead, Ahead::Unknown(_)) {
                beam.ahead = arrivals.next().expect("one arrival per visit").into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        parameters::Parameters,
        search::top_k,
        testing::{tiny_catalog, tiny_shape},
    };
    use candle_core::Device;
    use riser_core::random::Seed;

    #[test]
    fn a_beam_wider_than_the_catalog_finds_what_the_exact_search_finds() {
        let catalog = tiny_catalog();
        let model = Parameters::initialise(&tiny_shape(), Seed(2), &Device::Cpu).unwrap().inference_model().unwrap();
        let prompts: Vec<&[u32]> = vec![&[1, 9, 4, 17], &[1, 3]];
        for space in [LogprobSpace::Vocabulary, LogprobSpace::Catalog] {
            let leaves = |lists: Vec<Vec<Ranked>>| -> Vec<Vec<NodeId>> {
                lists.into_iter().map(|list| list.into_iter().map(|ranked| ranked.leaf).collect()).collect()
            };
            let beam = beam_search(&model, &catalog, space, &prompts, 30).unwrap();
            let exact = top_k(&model, &catalog, space, &prompts, 30).unwrap();
            assert_eq!(leaves(beam), leaves(exact));
        }
    }

    #[test]
    fn no_beam_item_scores_above_the_exact_list() {
        let catalog = tiny_catalog();
        let model = Parameters::initialise(&tiny_shape(), Seed(3), &Device::Cpu).unwrap().inference_model().unwrap();
        let prompts: Vec<&[u32]> = vec![&[1, 9, 4, 17]];
        let beam = beam_search(&model, &catalog, LogprobSpace::Vocabulary, &prompts, 2).unwrap().remove(0);
        let exact = top_k(&model, &catalog, LogprobSpace::Vocabulary, &prompts, 2).unwrap().remove(0);
        assert!(!beam.is_empty());
        assert!(beam.iter().zip(&exact).all(|(beam, exact)| beam.score <= exact.score + 1e-6));
    }
}
