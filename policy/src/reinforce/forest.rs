//! Groups as a forest, and the way between its edges and the objective's tokens.

use super::information::Informant;
use crate::{
    forest::{Forest, ForestBuilder, ItemEdges},
    shards,
};
use rayon::prelude::*;
use riser_core::{
    group::RolloutGroup,
    ids::NodeId,
    logprob_space::LogprobSpace,
    objective::{Completion, Group, ObjectiveConfig, Outcome, Target},
    prefix_tree::PrefixTree,
};
use std::ops::Range;

/// A run of groups in one forest.
pub(super) struct GroupForest<'g> {
    pub(super) forest: Forest,
    pub(super) groups: Vec<GroupEdges<'g>>,
}

/// Where the tokens of one group stand among the edges.
pub(super) struct GroupEdges<'g> {
    group: &'g RolloutGroup,
    completions: Vec<ItemEdges>,
    /// `None` if the objective does not ask for the target of this group.
    target: Option<ItemEdges>,
    /// The nodes from the root to the target, both included.
    target_nodes: Vec<NodeId>,
}

impl<'g> GroupForest<'g> {
    /// Cuts groups, in order, into forests of about `limit` rows (at least one group each).
    pub(super) fn build(
        catalog: &PrefixTree,
        groups: &[&'g RolloutGroup],
        objective: &ObjectiveConfig,
        space: LogprobSpace,
        limit: usize,
    ) -> Vec<Self> {
        // Every entry of a sub-tree is at most one row; that the target may add some does not matter for the cut.
        let rows: Vec<usize> = groups.iter().map(|group| group.prompt.len() + group.subtree.len()).collect();
        let of_shard = |shard: Range<usize>| {
            let mut builder = ForestBuilder::new(catalog, space);
            let members = groups[shard].iter().map(|&group| add(&mut builder, catalog, group, objective)).collect();
            Self { forest: builder.build(), groups: members }
        };
        shards::cut(&rows, limit).into_par_iter().map(of_shard).collect()
    }

    /// The groups as the objective reads them; `informant` says what their tokens tell about the items.
    pub(super) fn objective_groups(
        &self,
        catalog: &PrefixTree,
        logprobs: &[f32],
        informant: &Informant<'_>,
    ) -> Vec<Group> {
        self.groups.iter().map(|edges| edges.objective_group(catalog, logprobs, informant)).collect()
    }

    /// The log-probability of every token of every completion, by group.
    pub(super) fn completions(&self, logprobs: &[f32]) -> Vec<Vec<Vec<f64>>> {
        let of_group = |edges: &GroupEdges<'_>| edges.completions.iter().map(|item| read(item, logprobs)).collect();
        self.groups.iter().map(of_group).collect()
    }

    /// The loss's derivative with respect to every edge; `first` is the place of the part's first group in the outcome.
    pub(super) fn coefficients(&self, first: usize, outcome: &Outcome) -> Vec<f32> {
        let mut sums = vec![0.0_f64; self.forest.num_edges()];
        let mut add = |edges: &ItemEdges, gradient: &[f64]| {
            for (edge, gradient) in edges.iter().zip(gradient) {
                if let Some(edge) = edge {
                    sums[*edge as usize] += gradient;
                }
            }
        };
        for (i, group) in self.groups.iter().enumerate() {
            let completions = group.completions.iter().zip(&outcome.gradient[first + i]);
            completions.for_each(|(edges, gradient)| add(edges, gradient));
            if let Some(target) = &group.target {
                add(target, &outcome.target_gradient[first + i]);
            }
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    }
}

fn add<'g>(
    builder: &mut ForestBuilder<'_>,
    catalog: &PrefixTree,
    group: &'g RolloutGroup,
    objective: &ObjectiveConfig,
) -> GroupEdges<'g> {
    let target = catalog.leaf_of(group.target);
    let mut leaves: Vec<NodeId> = vec![];
    if objective.needs_completions() {
        leaves.extend(group.completions.iter().map(|completion| group.subtree.node[completion.leaf as usize]));
    }
    let has_failed = !leaves.contains(&target);
    let wants_target =
        objective.needs_target_for_all_groups() || (has_failed && objective.needs_target_of_failed_groups());
    leaves.extend(wants_target.then_some(target));
    let mut completions = builder.tree(&group.prompt, &leaves);
    GroupEdges {
        group,
        target: if wants_target { completions.pop() } else { None },
        completions,
        target_nodes: catalog.nodes_to(target),
    }
}

/// The log-probability of every token of an item.
fn read(edges: &ItemEdges, logprobs: &[f32]) -> Vec<f64> {
    edges.iter().map(|edge| edge.map_or(0.0, |edge| f64::from(logprobs[edge as usize]))).collect()
}

impl GroupEdges<'_> {
    fn objective_group(&self, catalog: &PrefixTree, logprobs: &[f32], informant: &Informant<'_>) -> Group {
        let subtree = &self.group.subtree;
        let item_entropy = f64::from(self.group.stats.item_entropy);
        let completion = |(edges, completion): (&ItemEdges, &riser_core::group::Completion)| {
            let path = subtree.path(completion.leaf);
            let nodes: Vec<NodeId> = path.iter().map(|&entry| subtree.node[entry as usize]).collect();
            let walk = [&[PrefixTree::ROOT], nodes.as_slice()].concat();
            Completion {
                item: completion.item.0,
                reward: f64::from(completion.reward),
                logprob: read(edges, logprobs),
                behaviour_logprob: path.iter().map(|&entry| f64::from(subtree.logprob[entry as usize])).collect(),
                reference_logprob: vec![],
                children: path.iter().map(|&entry| subtree.children[entry as usize]).collect(),
                information: informant.shares(catalog, edges, &walk, item_entropy),
                node: nodes.into_iter().map(|node| node.0).collect(),
            }
        };
        let target = self.target.as_ref();
        let before = &self.target_nodes[..self.target_nodes.len() - 1];
        Group {
            completions: self.completions.iter().zip(&self.group.completions).map(completion).collect(),
            target: Target {
                item: self.group.target.0,
                logprob: target.map_or(vec![], |edges| read(edges, logprobs)),
                children: before.iter().map(|&node| catalog.num_children(node) as u32).collect(),
                information: target
                    .map_or(vec![], |edges| informant.shares(catalog, edges, &self.target_nodes, item_entropy)),
            },
        }
    }
}
