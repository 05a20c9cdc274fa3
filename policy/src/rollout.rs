//! Independent sampling by count splitting: m samples descend together and part where they choose differently.
//!
//! At a branching node each sample draws its own uniform number from the stream keyed by (seed, group, sample) and inverts
//! the children's cumulative distribution; samples that choose the same child go on together. That is exactly m independent
//! samples, but every shared prefix is computed once, and an illegal token cannot be represented.

use crate::{
    descent::{Arrival, Choice, Descent, Visit, VocabularyStats},
    inference::Inference,
    kernels::score::Law,
};
use candle_core::Result;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use riser_core::{
    group::{Completion, GroupStats, RolloutGroup, SubTree},
    ids::{GroupId, ItemIndex, NodeId, RowId},
    logprob_space::LogprobSpace,
    prefix_tree::PrefixTree,
    random::Seed,
    selection::{Fill, Pick, Selection},
    snapshot::PolicyIdentity,
};
use std::collections::BTreeMap;

/// How groups are drawn.
#[derive(Debug, Clone, Copy)]
pub struct RolloutSettings {
    /// Key of all draws.
    pub seed: Seed,
    /// Space of the recorded log-probabilities. Draws always come from the legal children.
    pub space: LogprobSpace,
    /// Logits are divided by this, in sampling and in learning.
    pub temperature: f32,
    /// Samples drawn per prompt, m.
    pub samples: usize,
    /// How n of them are kept.
    pub selection: Selection,
    /// Reward of the target.
    pub reward_hit: f32,
    /// Reward of any other item.
    pub reward_miss: f32,
}

impl RolloutSettings {
    /// `samples` draws at temperature 1, of which `group` are kept, distinct items and the hit first; a hit is worth 1, a
    /// miss -1.
    pub fn new(seed: Seed, space: LogprobSpace, samples: usize, group: usize) -> Self {
        let selection = Selection { group, pick: Pick::FirstSeen, fill: Fill::Appearance, keep_hit: true };
        Self { seed, space, temperature: 1.0, samples, selection, reward_hit: 1.0, reward_miss: -1.0 }
    }
}

/// One prompt to sample for.
#[derive(Debug, Clone)]
pub struct RolloutRequest {
    /// Place in the run; keys the draws.
    pub id: GroupId,
    /// Row of the dataset.
    pub row: RowId,
    /// The history as tokens.
    pub prompt: Vec<u32>,
    /// The item the user chose next.
    pub target: ItemIndex,
}

/// Samples a group for every request; `policy` says what the model is. The draws depend on the policy and on (seed, group,
/// sample), on nothing else.
///
/// # Errors
/// Whatever candle reports.
pub fn rollout(
    inference: &Inference,
    catalog: &PrefixTree,
    policy: PolicyIdentity,
    requests: &[RolloutRequest],
    settings: &RolloutSettings,
) -> Result<Vec<RolloutGroup>> {
    let of_lane = |requests: &[RolloutRequest]| rollout_lane(inference, catalog, policy, requests, settings);
    inference.in_lanes(requests, |request| request.prompt.len(), of_lane)
}

fn rollout_lane(
    inference: &Inference,
    catalog: &PrefixTree,
    policy: PolicyIdentity,
    requests: &[RolloutRequest],
    settings: &RolloutSettings,
) -> Result<Vec<RolloutGroup>> {
    let law = Law { space: settings.space, temperature: settings.temperature };
    let prompts: Vec<&[u32]> = requests.iter().map(|request| request.prompt.as_slice()).collect();
    let (mut descent, roots) = Descent::start(inference, catalog, law, &prompts)?;
    let mut walks: Vec<Walk<'_>> = requests.iter().map(|request| Walk::new(catalog, request, settings)).collect();
    // Parties of samples that have gone the same way so far and stand at a choice.
    let mut parties: Vec<(usize, Party)> = vec![];
    for (tree, (walk, root)) in walks.iter_mut().zip(roots).enumerate() {
        let all = Party { samples: (0..settings.samples).collect(), entry: SubTree::TRUNK, choice: None };
        parties.extend(walk.arrive(all, root).map(|party| (tree, party)));
    }
    while !parties.is_empty() {
        let mut visits = vec![];
        let mut moved = vec![];
        for (tree, party) in parties {
            for (party, node, from) in walks[tree].part(party) {
                visits.push(Visit { tree, from, node });
                moved.push((tree, party));
            }
        }
        let arrivals = descent.expand(&visits)?;
        parties = moved
            .into_iter()
            .zip(arrivals)
            .filter_map(|((tree, party), arrival)| Some((tree, walks[tree].arrive(party, arrival)?)))
            .collect();
    }
    Ok(requests.iter().zip(walks).map(|(request, walk)| walk.group(request, policy, settings)).collect())
}

/// Samples that share their path so far.
struct Party {
    samples: Vec<usize>,
    /// Sub-tree entry they stand on.
    entry: u32,
    /// The choice before them.
    choice: Option<Choice>,
}

/// The growing sub-tree of one group.
struct Walk<'c> {
    catalog: &'c PrefixTree,
    streams: Vec<ChaCha8Rng>,
    subtree: SubTree,
    /// Final entry of each sample.
    ends: Vec<u32>,
    entropies: Entropies,
}

impl<'c> Walk<'c> {
    fn new(catalog: &'c PrefixTree, request: &RolloutRequest, settings: &RolloutSettings) -> Self {
        let stream = |sample| settings.seed.stream("sample", &[request.id.0, sample as u64]);
        Self {
            catalog,
            streams: (0..settings.samples).map(stream).collect(),
            subtree: SubTree::default(),
            ends: vec![SubTree::TRUNK; settings.samples],
            entropies: Entropies::default(),
        }
    }

    fn enter(&mut self, parent: u32, node: NodeId, logprob: f32, children: usize) -> u32 {
        let token = self.catalog.token_into(node).expect("a step enters a node below the root");
        self.subtree.parent.push(parent);
        self.subtree.token.push(token);
        self.subtree.node.push(node);
        // Rounding may leave a certain token a hair above 0.
        self.subtree.logprob.push(logprob.min(0.0));
        self.subtree.children.push(children as u32);
        self.subtree.len() as u32 - 1
    }

    /// Follows a forced run; returns the party if it stands at a choice, or notes where its samples ended.
    fn arrive(&mut self, mut party: Party, arrival: Arrival) -> Option<Party> {
        for step in &arrival.forced {
            self.entropies.token(step.vocabulary, party.samples.len());
            party.entry = self.enter(party.entry, step.node, step.logprob, 1);
        }
        party.choice = arrival.choice;
        if party.choice.is_none() {
            party.samples.iter().for_each(|&sample| self.ends[sample] = party.entry);
            return None;
        }
        Some(party)
    }

    /// Lets every sample of a party choose; returns the parties that go on, the node each enters and the row it comes from.
    fn part(&mut self, party: Party) -> Vec<(Party, NodeId, u32)> {
        let Party { samples, entry, choice } = party;
        let choice = choice.expect("only parties before a choice are parted");
        self.entropies.choice(&choice, samples.len());
        let cumulative = choice.cumulative();
        let mut chosen: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for sample in samples {
            chosen.entry(draw(&cumulative, &mut self.streams[sample])).or_default().push(sample);
        }
        let children = self.catalog.children(choice.node);
        let mut going_on = vec![];
        for (k, samples) in chosen {
            let node = children.node(k);
            let entry = self.enter(entry, node, choice.logprob(k), children.tokens.len());
            if self.catalog.is_leaf(node) {
                samples.iter().for_each(|&sample| self.ends[sample] = entry);
            } else {
                going_on.push((Party { samples, entry, choice: None }, node, choice.row));
            }
        }
        going_on
    }

    fn group(self, request: &RolloutRequest, policy: PolicyIdentity, settings: &RolloutSettings) -> RolloutGroup {
        let leaves: Vec<NodeId> = self.ends.iter().map(|&end| self.subtree.node[end as usize]).collect();
        let hit = self.catalog.leaf_of(request.target);
        let kept = settings.selection.select(&leaves, hit, settings.seed, request.id.0);
        let mut distinct = leaves.clone();
        distinct.sort_unstable();
        distinct.dedup();
        // Only what the kept samples walk is sent.
        let logprobs: std::collections::HashMap<NodeId, f32> =
            self.subtree.node.iter().copied().zip(self.subtree.logprob.iter().copied()).collect();
        let kept_leaves: Vec<NodeId> = kept.iter().map(|&sample| leaves[sample]).collect();
        let (subtree, ends) = SubTree::spanning(self.catalog, &kept_leaves, |before, token| {
            logprobs[&self.catalog.step(before, token).expect("a path is made of legal steps")]
        });
        let completions = kept_leaves.iter().zip(ends).map(|(&leaf, end)| {
            let is_hit = leaf == hit;
            let item = if is_hit { request.target } else { self.catalog.items_at(leaf)[0] };
            Completion { leaf: end, item, reward: if is_hit { settings.reward_hit } else { settings.reward_miss } }
        });
        RolloutGroup {
            id: request.id,
            row: request.row,
            version: policy.version,
            policy: policy.digest,
            catalog: self.catalog.digest(),
            space: settings.space,
            prompt: request.prompt.clone(),
            target: request.target,
            completions: completions.collect(),
            subtree,
            sampled: settings.samples as u32,
            unique: distinct.len() as u32,
            stats: self.entropies.stats(settings.samples),
        }
    }
}

/// Inverts a cumulative distribution at a uniform draw: the first child whose sum exceeds it.
fn draw(cumulative: &[f64], stream: &mut ChaCha8Rng) -> usize {
    let total = cumulative.last().expect("a choice has children");
    let drawn = stream.random::<f64>() * total;
    // The draw is below 1, but its product with the total may round up to it.
    cumulative.partition_point(|&sum| sum <= drawn).min(cumulative.partition_point(|sum| sum < total))
}

/// Sums for the entropies of method 1.8, weighted by the samples that pass a position.
#[derive(Default)]
struct Entropies {
    full: f64,
    legal_mass: f64,
    full_positions: f64,
    branch: f64,
    branch_positions: f64,
}

impl Entropies {
    fn token(&mut self, vocabulary: Option<VocabularyStats>, samples: usize) {
        if let Some(stats) = vocabulary {
            let weight = samples as f64;
            self.full += weight * f64::from(stats.entropy);
            self.legal_mass += weight * f64::from(stats.legal_mass);
            self.full_positions += weight;
        }
    }

    fn choice(&mut self, choice: &Choice, samples: usize) {
        self.token(choice.vocabulary, samples);
        self.branch += samples as f64 * f64::from(choice.entropy);
        self.branch_positions += samples as f64;
    }

    fn stats(&self, samples: usize) -> GroupStats {
        let per_token = |sum: f64| (self.full_positions > 0.0).then(|| (sum / self.full_positions) as f32);
        GroupStats {
            token_entropy: per_token(self.full),
            branch_entropy: (self.branch / self.branch_positions.max(1.0)) as f32,
            // Chain rule: the entropy over items is the expected sum of node entropies along a sample's walk.
            item_entropy: (self.branch / samples as f64) as f32,
            legal_mass: per_token(self.legal_mass),
        }
    }
}

#[cfg(test)]
mod tests;
