//! A descent of the prefix tree for a batch of prompts: every prompt is computed once, every visited node once.
//!
//! Sampling, best-first search and beam search differ only in which children they ask to expand next. Forced runs are fed
//! as one chunk together with the next decision; in catalog space a run that ends at a leaf is not fed at all.

use crate::{
    inference::{Inference, Session},
    kernels::{
        attention::{Segment, Visibility},
        lanes,
        score::{Decisions, Law, Measured},
    },
    rows::{Kept, Rows},
};
use candle_core::Result;
use riser_core::{ids::NodeId, logprob_space::LogprobSpace, prefix_tree::PrefixTree};
use std::{ops::Range, sync::Arc};

/// A row of the session: where a prefix-tree node's state was computed.
type Row = u32;

/// Asks for the state behind one edge: `node` is entered from the state at `from`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    /// Which prompt.
    pub(crate) tree: usize,
    /// Row of the parent's state.
    pub(crate) from: Row,
    /// The node entered.
    pub(crate) node: NodeId,
}

/// Where a visit ended after its forced run: at a branching node, or at a leaf.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The steps of the forced run behind the visited node, in order.
    pub(crate) forced: Vec<Step>,
    /// The choice to be made here; `None` at a leaf.
    pub(crate) choice: Option<Choice>,
}

/// One token entered without a choice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// The node entered.
    pub(crate) node: NodeId,
    /// Log-probability of the token in the descent's space.
    pub(crate) logprob: f32,
    /// Whole-vocabulary quantities before the token.
    pub(crate) vocabulary: Option<VocabularyStats>,
}

/// A branching node with the policy's opinion of its children.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// The node.
    pub(crate) node: NodeId,
    /// Row of its state.
    pub(crate) row: Row,
    /// Logit of each child, divided by the temperature.
    logits: Vec<f32>,
    /// Log of the summed exponentials of the children's logits, and of all those that count in the descent's space.
    lse: (f32, f32),
    /// Entropy of the children among themselves in nats.
    pub(crate) entropy: f32,
    /// Whole-vocabulary quantities at this node.
    pub(crate) vocabulary: Option<VocabularyStats>,
}

impl Choice {
    /// Log-probability of each child in the descent's space.
    pub(crate) fn logprobs(&self) -> impl Iterator<Item = f32> + '_ {
        self.logits.iter().map(|logit| logit - self.lse.1)
    }

    /// Log-probability of child `k` in the descent's space.
    pub(crate) fn logprob(&self, k: usize) -> f32 {
        self.logits[k] - self.lse.1
    }

    /// Probability of each child among the legal ones, added up from the first: the law that constrained sampling draws from.
    pub(crate) fn cumulative(&self) -> Vec<f64> {
        let mut probabilities = self.logits.clone();
        lanes::exp_shifted(&mut probabilities, self.lse.0);
        let mut sum = 0.0;
        let add = |&probability: &f32| {
            sum += f64::from(probability);
            sum
        };
        probabilities.iter().map(add).collect()
    }
}

/// What the whole softmax says at one position (method 1.8).
#[derive(Debug, Clone, Copy)]
pub(crate) struct VocabularyStats {
    /// Entropy of the full softmax in nats.
    pub(crate) entropy: f32,
    /// Its share on legal children.
    pub(crate) legal_mass: f32,
}

/// The state of a batch of descents.
pub(crate) struct Descent<'m> {
    session: Session<'m>,
    catalog: &'m PrefixTree,
    law: Law,
    /// Rows of each prompt.
    trunks: Vec<Range<usize>>,
    branches: Branches,
}

/// All rows behind the trunks.
struct Branches {
    /// The first of them.
    first: usize,
    rows: Vec<Branch>,
}

/// A row behind a trunk.
#[derive(Debug, Clone, Copy)]
struct Branch {
    /// The row before it; of the trunk for the first.
    parent: Row,
    position: u32,
}

impl Branches {
    /// `None` for a row of a trunk.
    fn get(&self, row: Row) -> Option<Branch> {
        (row as usize).checked_sub(self.first).map(|place| self.rows[place])
    }

    /// Appends the rows from the first behind the trunk to `row`, itself last; returns where they are.
    fn write_path(&self, mut row: Row, to: &mut Vec<u32>) -> Range<usize> {
        let start = to.len();
        while let Some(branch) = self.get(row) {
            to.push(row);
            row = branch.parent;
        }
        to[start..].reverse();
        start..to.len()
    }
}

impl<'m> Descent<'m> {
    /// Computes the prompts; returns the arrival at the root for each (or behind it, if the catalog starts with forced tokens).
    ///
    /// # Errors
    /// Whatever candle reports.
    pub(crate) fn start(
        inference: &'m Inference,
        catalog: &'m PrefixTree,
        law: Law,
        prompts: &[&[u32]],
    ) -> Result<(Self, Vec<Arrival>)> {
        let tokens: usize = prompts.iter().map(|prompt| prompt.len()).sum();
        let mut session = Session::new(inference, 2 * tokens)?;
        let (rows, trunks) = session.prompts(prompts);
        let mut decisions = Decisions::new();
        let root = catalog.children(PrefixTree::ROOT);
        for _ in &trunks {
            decisions.push(root.tokens);
        }
        let measured = session.compute(&rows, &decisions, law)?;
        session.remember(prompts, &trunks);
        let branches = Branches { first: session.len(), rows: vec![] };
        let mut descent = Self { session, catalog, law, trunks, branches };
        let rows: Vec<Row> = descent.trunks.iter().map(|trunk| trunk.end as u32 - 1).collect();
        if root.tokens.len() > 1 {
            let choice = |(d, &row)| descent.choice(&decisions, &measured, d, PrefixTree::ROOT, row);
            let arrivals = rows.iter().enumerate().map(choice);
            let arrivals = arrivals.map(|choice| Arrival { forced: vec![], choice: Some(choice) }).collect();
            return Ok((descent, arrivals));
        }
        let first = |d: usize| descent.step(&decisions, &measured, d, root.node(0));
        let first: Vec<Step> = (0..rows.len()).map(first).collect();
        if catalog.is_leaf(root.node(0)) {
            let arrivals = first.into_iter().map(|step| Arrival { forced: vec![step], choice: None }).collect();
            return Ok((descent, arrivals));
        }
        let visits: Vec<Visit> =
            rows.iter().enumerate().map(|(tree, &from)| Visit { tree, from, node: root.node(0) }).collect();
        let mut arrivals = descent.expand(&visits)?;
        arrivals.iter_mut().zip(first).for_each(|(arrival, step)| arrival.forced.insert(0, step));
        Ok((descent, arrivals))
    }

    /// Computes the states behind several edges at once; visits must be grouped by tree. No visited node may be a leaf.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub(crate) fn expand(&mut self, visits: &[Visit]) -> Result<Vec<Arrival>> {
        debug_assert!(visits.is_sorted_by_key(|visit| visit.tree), "visits are not grouped by tree");
        let (mut nodes, mut runs) = (vec![], Vec::with_capacity(visits.len()));
        for visit in visits {
            let start = nodes.len();
            nodes.extend(self.run(visit.node));
            runs.push(start..nodes.len());
        }
        let mut batch = Batch::default();
        for (visit, run) in visits.iter().zip(&runs) {
            self.feed(&mut batch, visit, &nodes[run.clone()]);
        }
        let measured = match batch.tokens.is_empty() {
            true => None,
            false => Some(self.compute(&mut batch)?),
        };
        let mut decision = 0;
        let arrivals = runs.iter().zip(&batch.last_row).map(|(run, &last_row)| {
            let run = &nodes[run.clone()];
            let mut arrival = Arrival { forced: vec![], choice: None };
            for pair in run.windows(2) {
                arrival.forced.push(match &measured {
                    Some(measured) if self.law.space == LogprobSpace::Vocabulary => {
                        decision += 1;
                        self.step(&batch.decisions, measured, decision - 1, pair[1])
                    }
                    _ => Step { node: pair[1], logprob: 0.0, vocabulary: None },
                });
            }
            let end = run[run.len() - 1];
            if let (false, Some(measured)) = (self.catalog.is_leaf(end), &measured) {
                arrival.choice = Some(self.choice(&batch.decisions, measured, decision, end, last_row));
                decision += 1;
            }
            arrival
        });
        Ok(arrivals.collect())
    }

    /// The nodes from `node` along forced edges to the first branching node or leaf.
    fn run(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let next = |&node: &NodeId| {
            let children = self.catalog.children(node);
            (children.tokens.len() == 1).then(|| children.node(0))
        };
        std::iter::successors(Some(node), next)
    }

    /// Adds the rows of one run to the batch, as far as something is asked at or behind them.
    fn feed(&self, batch: &mut Batch, visit: &Visit, run: &[NodeId]) {
        let ends_in_leaf = self.catalog.is_leaf(run[run.len() - 1]);
        let every_token_counts = self.law.space == LogprobSpace::Vocabulary;
        let fed = match (ends_in_leaf, every_token_counts) {
            (false, _) => run.len(),
            (true, true) => run.len() - 1,
            (true, false) => 0,
        };
        let before = self.branches.get(visit.from);
        let mut position = before.map_or(self.trunks[visit.tree].len() as u32, |branch| branch.position + 1);
        let mut parent = visit.from;
        for (i, &node) in run[..fed].iter().enumerate() {
            let row = (self.session.len() + batch.tokens.len()) as u32;
            batch.tokens.push(self.catalog.token_into(node).expect("a visited node is not the root"));
            batch.branches.push(Branch { parent, position });
            batch.tree.push(visit.tree);
            (parent, position) = (row, position + 1);
            if every_token_counts || i + 1 == run.len() {
                batch.kept_rows.push(batch.tokens.len() as u32 - 1);
                batch.decisions.push(self.catalog.children(node).tokens);
            }
        }
        batch.last_row.push(parent);
    }

    fn compute(&mut self, batch: &mut Batch) -> Result<Measured> {
        let first = self.session.len() as Row;
        self.branches.rows.append(&mut batch.branches);
        let rows = batch.rows(&self.trunks, &self.branches, first);
        self.session.compute(&rows, &batch.decisions, self.law)
    }

    fn step(&self, decisions: &Decisions, measured: &Measured, decision: usize, node: NodeId) -> Step {
        let child = decisions.children(decision).start;
        let logprob = measured.logprob(self.law.space, decision, child);
        Step { node, logprob, vocabulary: vocabulary_stats(measured, decision) }
    }

    fn choice(&self, decisions: &Decisions, measured: &Measured, decision: usize, node: NodeId, row: Row) -> Choice {
        let lse = |space| measured.lse(space, decision);
        Choice {
            node,
            row,
            logits: measured.child_logit[decisions.children(decision)].to_vec(),
            lse: (lse(LogprobSpace::Catalog), lse(self.law.space)),
            entropy: measured.branch_entropy(decisions, decision),
            vocabulary: vocabulary_stats(measured, decision),
        }
    }
}

fn vocabulary_stats(measured: &Measured, decision: usize) -> Option<VocabularyStats> {
    let legal_mass = measured.legal_mass(decision)?;
    let entropy = measured.vocabulary.as_ref()?.entropy[decision];
    Some(VocabularyStats { entropy, legal_mass })
}

/// The rows of one expansion.
struct Batch {
    tokens: Vec<u32>,
    branches: Vec<Branch>,
    tree: Vec<usize>,
    /// Rows at which something is asked; parallel to `decisions`.
    kept_rows: Vec<u32>,
    decisions: Decisions,
    /// Row of the last state of each visit's run.
    last_row: Vec<Row>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            tokens: vec![],
            branches: vec![],
            tree: vec![],
            kept_rows: vec![],
            decisions: Decisions::new(),
            last_row: vec![],
        }
    }
}

impl Batch {
    /// The rows, which are those of `branches` from `first` on.
    fn rows(&self, trunks: &[Range<usize>], branches: &Branches, first: Row) -> Rows {
        let visibility = |rows: &[u32]| {
            let mut visibility = Visibility { num_rows: rows.len(), ..Visibility::default() };
            let mut start = 0;
            for of_tree in rows.chunk_by(|&a, &b| self.tree[a as usize] == self.tree[b as usize]) {
                let path = |&row: &u32| branches.write_path(first + row, &mut visibility.path);
                let segment = Segment {
                    paths: of_tree.iter().map(path).collect(),
                    rows: start..start + of_tree.len(),
                    keys: trunks[self.tree[of_tree[0] as usize]].clone(),
                    is_causal: false,
                };
                start = segment.rows.end;
                visibility.trees.push(vec![segment]);
            }
            Arc::new(visibility)
        };
        let all: Vec<u32> = (0..self.tokens.len() as u32).collect();
        Rows {
            tokens: self.tokens.clone(),
            positions: branches.rows[first as usize - branches.first..].iter().map(|branch| branch.position).collect(),
            visible: visibility(&all),
            kept: Some(Kept { rows: self.kept_rows.clone(), visible: visibility(&self.kept_rows) }),
        }
    }
}
