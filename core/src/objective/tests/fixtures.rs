//! Batches to test with.

use crate::objective::{Completion, Group, Target};
use crate::random::Seed;
use rand::Rng;
use std::collections::HashMap;

/// Item of every target.
pub(super) const TARGET: u32 = 0;

/// A batch in which even groups pass (one to three hits) and odd groups fail, with duplicates among the misses, lengths
/// from 2 to 6, forced tokens, behaviour and reference policies that lie near the current one, and any information. Nodes are
/// those of a narrow tree, in which most tokens are shared and some part the group.
pub(super) fn batch(seed: u64, num_groups: usize, group_size: usize) -> Vec<Group> {
    let mut rng = Seed(seed).stream("batch", &[]);
    (0..num_groups)
        .map(|index| {
            let num_hits = if index % 2 == 0 { rng.random_range(1..=3.min(group_size - 1)) } else { 0 };
            let completions = (0..group_size)
                .map(|position| {
                    let is_hit = position < num_hits;
                    let item = if is_hit { TARGET } else { rng.random_range(1..=group_size as u32) };
                    completion(&mut rng, item, if is_hit { 1.0 } else { -1.0 })
                })
                .collect();
            let Completion { logprob, children, information, .. } = completion(&mut rng, TARGET, 0.0);
            let mut group = Group { completions, target: Target { item: TARGET, logprob, children, information } };
            grow(&mut rng, &mut group);
            group
        })
        .collect()
}

/// Spells every completion with one of two tokens at a time and an end, and numbers the nodes.
fn grow(rng: &mut impl Rng, group: &mut Group) {
    let mut numbers: HashMap<Vec<u32>, u32> = HashMap::new();
    for completion in &mut group.completions {
        let num_tokens = completion.children.len();
        let mut path = Vec::new();
        for t in 0..num_tokens {
            path.push(if t + 1 == num_tokens { 2 } else { rng.random_range(0..2) });
            let next = numbers.len() as u32;
            completion.node.push(*numbers.entry(path.clone()).or_insert(next));
        }
    }
}

fn completion(rng: &mut impl Rng, item: u32, reward: f64) -> Completion {
    let num_tokens = rng.random_range(2..=6);
    // the first token is a choice, as at the root of any catalog of more than one item
    let children: Vec<u32> = (0..num_tokens)
        .map(|token| if token > 0 && rng.random_bool(0.6) { 1 } else { rng.random_range(2..40) })
        .collect();
    let logprob: Vec<f64> =
        children.iter().map(|&count| -rng.random_range(0.01..if count > 1 { 3.0 } else { 0.2 })).collect();
    let information = children.iter().map(|&count| if count > 1 { rng.random_range(0.0..1.0) } else { 0.0 }).collect();
    let mut near = || logprob.iter().map(|logprob| logprob + rng.random_range(-0.4..0.4)).collect();
    let (behaviour_logprob, reference_logprob) = (near(), near());
    Completion { item, reward, logprob, behaviour_logprob, reference_logprob, children, information, node: vec![] }
}

/// A group whose completions have one token each.
pub(super) fn one_token_group(completions: &[(u32, f64, f64)], target: (u32, f64), children: u32) -> Group {
    let completions = completions
        .iter()
        .map(|&(item, reward, logprob)| Completion {
            item,
            reward,
            information: vec![1.0],
            node: vec![item],
            logprob: vec![logprob],
            behaviour_logprob: vec![logprob],
            reference_logprob: vec![logprob],
            children: vec![children],
        })
        .collect();
    Group {
        completions,
        target: Target { item: target.0, logprob: vec![target.1], children: vec![children], information: vec![1.0] },
    }
}
