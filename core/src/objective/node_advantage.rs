//! Advantages among siblings: a token is compared with the other ways that its group went from the same node.

use super::Group;
use std::collections::HashMap;

/// The root, before the first token.
const ROOT: Option<u32> = None;

/// Completions that go through a node.
#[derive(Debug, Clone, Copy, Default)]
struct Through {
    count: usize,
    advantage: f64,
}

impl Through {
    fn mean(self) -> f64 {
        self.advantage / self.count as f64
    }
}

/// The advantage of every token by [`Level::Node`](super::Level::Node), from the `advantages` of completions.
///
/// Advantages are centred rewards over one scale, so their differences among siblings are those of the rewards over that scale.
/// Through an edge the sum over completions is `count(c) * (Abar(c) - Abar(v))`: of the sequence's gradient what is left when
/// the mean of all that reach `v` is the baseline there.
///
/// # Shapes
/// - `advantages`: `[completions]`; returns `[completions][tokens]`
pub(super) fn of_tokens(group: &Group, advantages: &[f64]) -> Vec<Vec<f64>> {
    let mut through: HashMap<Option<u32>, Through> = HashMap::new();
    for (completion, advantage) in group.completions.iter().zip(advantages) {
        for node in std::iter::once(ROOT).chain(completion.node.iter().copied().map(Some)) {
            let passing = through.entry(node).or_default();
            passing.count += 1;
            passing.advantage += advantage;
        }
    }
    let of_completion = |(completion, &advantage): (&super::Completion, &f64)| {
        let (mut before, mut current) = (through[&ROOT], advantage);
        let step = |node: &u32| {
            let after = through[&Some(*node)];
            // Fewer go this way than came: the others are siblings.
            if after.count < before.count {
                current = after.mean() - before.mean();
            }
            before = after;
            current
        };
        completion.node.iter().map(step).collect()
    };
    group.completions.iter().zip(advantages).map(of_completion).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Completion, Target};
    use super::*;
    use proptest::prelude::*;

    /// A group of items, each spelled by the choices it takes; node numbers are made up from the prefixes.
    fn group(paths: &[Vec<u32>]) -> Group {
        let mut numbers: HashMap<&[u32], u32> = HashMap::new();
        let mut completions = vec![];
        for path in paths {
            let mut node = vec![];
            for end in 1..=path.len() {
                let next = numbers.len() as u32;
                node.push(*numbers.entry(&path[..end]).or_insert(next));
            }
            let (logprob, children) = (vec![-1.0; path.len()], vec![2; path.len()]);
            let plain = Completion {
                item: node[path.len() - 1],
                reward: 0.0,
                behaviour_logprob: vec![],
                reference_logprob: vec![],
                information: vec![],
                logprob,
                children,
                node,
            };
            completions.push(plain);
        }
        let target = Target { item: 0, logprob: vec![], children: vec![], information: vec![] };
        Group { completions, target }
    }

    /// Items that end with 0, so that none begins another, with centred advantages that like items share.
    fn groups() -> impl Strategy<Value = (Vec<Vec<u32>>, Vec<f64>)> {
        let items = prop::collection::vec(prop::collection::vec(1_u32..4, 1..5), 2..12);
        (items, any::<u64>()).prop_map(|(mut items, salt)| {
            items.iter_mut().for_each(|item| item.push(0));
            let reward = |item: &Vec<u32>| {
                let code = item.iter().fold(salt, |code, &token| code.wrapping_mul(31).wrapping_add(u64::from(token)));
                (code % 17) as f64 / 4.0
            };
            let rewards: Vec<f64> = items.iter().map(reward).collect();
            let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
            (items, rewards.iter().map(|reward| reward - mean).collect())
        })
    }

    fn mean_through(paths: &[Vec<u32>], advantages: &[f64], prefix: &[u32]) -> f64 {
        let values: Vec<f64> =
            paths.iter().zip(advantages).filter(|(path, _)| path.starts_with(prefix)).map(|(_, a)| *a).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    proptest! {
        #[test]
        fn a_token_with_siblings_gets_the_mean_through_it_less_that_through_its_node((paths, advantages) in groups()) {
            let tokens = of_tokens(&group(&paths), &advantages);
            for ((path, &own), tokens) in paths.iter().zip(&advantages).zip(&tokens) {
                let mut expected = own;
                for t in 0..path.len() {
                    if paths.iter().any(|other| other.starts_with(&path[..t]) && !other.starts_with(&path[..=t])) {
                        expected = mean_through(&paths, &advantages, &path[..=t]) - mean_through(&paths, &advantages, &path[..t]);
                    }
                    prop_assert!((tokens[t] - expected).abs() < 1e-12, "{} vs {expected}", tokens[t]);
                }
            }
        }

        #[test]
        fn the_choices_that_part_an_item_from_others_sum_to_its_advantage((paths, advantages) in groups()) {
            let tokens = of_tokens(&group(&paths), &advantages);
            for ((path, &own), tokens) in paths.iter().zip(&advantages).zip(&tokens) {
                let parts = |t: &usize| paths.iter().any(|it| it.starts_with(&path[..*t]) && !it.starts_with(&path[..=*t]));
                let places: Vec<usize> = (0..path.len()).filter(parts).collect();
                let sum: f64 = places.iter().map(|&t| tokens[t]).sum();
                let expected = if places.is_empty() { 0.0 } else { own };
                prop_assert!((sum - expected).abs() < 1e-12, "{sum} vs {own}");
            }
        }

        #[test]
        fn what_siblings_get_cancels_at_their_node((paths, advantages) in groups()) {
            let tokens = of_tokens(&group(&paths), &advantages);
            let longest = paths.iter().map(Vec::len).max().unwrap();
            for t in 0..longest {
                for path in paths.iter().filter(|path| path.len() > t) {
                    let through = paths.iter().zip(&tokens).filter(|(other, _)| other.starts_with(&path[..t]));
                    let parts = paths.iter().any(|it| it.starts_with(&path[..t]) && !it.starts_with(&path[..=t]));
                    let sum: f64 = through.map(|(_, tokens)| tokens[t]).sum();
                    prop_assert!(!parts || sum.abs() < 1e-12, "{sum}");
                }
            }
        }

        #[test]
        fn where_the_tree_parts_only_once_every_token_has_its_sequence_s_advantage(
            trunk in prop::collection::vec(1_u32..4, 0..3), ways in prop::collection::vec(1_u32..6, 2..10), tail in 0_usize..4,
        ) {
            let path = |way: &u32| [trunk.as_slice(), &[*way], &vec![7; tail]].concat();
            let paths: Vec<Vec<u32>> = ways.iter().map(path).collect();
            let mean = ways.iter().sum::<u32>() as f64 / ways.len() as f64;
            let advantages: Vec<f64> = ways.iter().map(|&way| f64::from(way) - mean).collect();
            let tokens = of_tokens(&group(&paths), &advantages);
            for (tokens, advantage) in tokens.iter().zip(&advantages) {
                prop_assert!(tokens.iter().all(|token| (token - advantage).abs() < 1e-12), "{tokens:?} vs {advantage}");
            }
        }
    }
}
