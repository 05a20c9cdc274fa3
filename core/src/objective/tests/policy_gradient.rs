//! The sampled objective against the exact policy gradient (method 5.1).
//!
//! The reward is 1 for one known item, so the expected reward is that item's probability `p` and its gradient is known.
//! Averaged over groups, centring on the group's own mean must give `((n - 1) / n) * grad p`.

use super::fixtures::one_token_group;
use crate::logprob_space::LogprobSpace;
use crate::objective::{Aggregate, Group, Normalise, ObjectiveConfig, Outcome, Preset, Surrogate, evaluate};
use crate::random::Seed;
use rand::Rng;

/// A policy that picks one of a few items in one step.
struct Toy {
    probabilities: Vec<f64>,
    target: usize,
}

impl Toy {
    fn new(logits: &[f64], target: usize) -> Self {
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        Self { probabilities: logits.iter().map(|logit| logit.exp() / total).collect(), target }
    }

    fn group(&self, items: &[usize]) -> Group {
        let logprob = |item: usize| self.probabilities[item].ln();
        let completions: Vec<_> = items
            .iter()
            .map(|&item| (item as u32, if item == self.target { 1.0 } else { 0.0 }, logprob(item)))
            .collect();
        one_token_group(&completions, (self.target as u32, logprob(self.target)), self.probabilities.len() as u32)
    }

    /// Derivative of `log p(item)` with respect to each logit.
    fn score(&self, item: usize) -> impl Iterator<Item = f64> {
        self.probabilities.iter().enumerate().map(move |(index, p)| if index == item { 1.0 - p } else { -p })
    }

    /// Derivative of the target's probability with respect to each logit.
    fn exact_gradient(&self) -> Vec<f64> {
        self.score(self.target).map(|score| self.probabilities[self.target] * score).collect()
    }

    /// The ascent direction of an outcome, as derivatives with respect to the logits.
    fn ascent(&self, groups: &[Vec<usize>], outcome: &Outcome) -> Vec<f64> {
        let mut ascent = vec![0.0; self.probabilities.len()];
        for (items, gradient) in groups.iter().zip(&outcome.gradient) {
            for (&item, entries) in items.iter().zip(gradient) {
                ascent.iter_mut().zip(self.score(item)).for_each(|(sum, score)| *sum -= entries[0] * score);
            }
        }
        ascent
    }
}

fn mean_only(surrogate: Surrogate) -> ObjectiveConfig {
    let mut config = Preset::Grpo.config(LogprobSpace::Catalog);
    config.surrogate = surrogate;
    config.advantage.normalise = Normalise::None;
    config.aggregate = Aggregate::SequenceMeanTokenMean;
    config.kl.coefficient = 0.0;
    config
}

fn largest_error(got: &[f64], exact: &[f64], factor: f64) -> f64 {
    got.iter().zip(exact).map(|(got, exact)| (got - factor * exact).abs()).fold(0.0, f64::max)
}

#[test]
fn over_all_possible_groups_the_mean_gradient_is_the_policy_gradient_times_n_minus_1_over_n() {
    let toy = Toy::new(&[0.3, -1.0, 0.9, 0.0], 0);
    let (num_items, n) = (4usize, 4u32);
    for surrogate in [Surrogate::Reinforce, Surrogate::Grpo, Surrogate::Cispo] {
        let mut mean = vec![0.0; num_items];
        for code in 0..num_items.pow(n) {
            let items: Vec<usize> = (0..n).map(|digit| code / num_items.pow(digit) % num_items).collect();
            let probability: f64 = items.iter().map(|&item| toy.probabilities[item]).product();
            let outcome = evaluate(&mean_only(surrogate), &[toy.group(&items)]).unwrap();
            let ascent = toy.ascent(&[items], &outcome);
            mean.iter_mut().zip(ascent).for_each(|(sum, entry)| *sum += probability * entry);
        }
        let error = largest_error(&mean, &toy.exact_gradient(), 0.75);
        assert!(error < 1e-14, "{surrogate:?}: {error}");
    }
}

#[test]
fn a_large_simulated_batch_points_along_the_policy_gradient() {
    let mut rng = Seed(7).stream("toy", &[]);
    let logits: Vec<f64> = (0..30).map(|_| rng.random_range(-1.5..1.5)).collect();
    let toy = Toy::new(&logits, 3);
    let draw = |uniform: f64| {
        let mut rest = uniform;
        toy.probabilities.iter().position(|p| {
            rest -= p;
            rest < 0.0
        })
    };
    let groups: Vec<Vec<usize>> =
        (0..20_000).map(|_| (0..16).map(|_| draw(rng.random()).unwrap_or(29)).collect()).collect();
    let batch: Vec<Group> = groups.iter().map(|items| toy.group(items)).collect();
    let outcome = evaluate(&mean_only(Surrogate::Grpo), &batch).unwrap();
    let error = largest_error(&toy.ascent(&groups, &outcome), &toy.exact_gradient(), 15.0 / 16.0);
    assert!(error < 1e-3, "{error}");
}

#[test]
fn the_exact_gradient_preset_is_the_policy_gradient() {
    let toy = Toy::new(&[0.3, -1.0, 0.9, 0.0], 0);
    let outcome = evaluate(&Preset::ExactGradient.config(LogprobSpace::Catalog), &[toy.group(&[])]).unwrap();
    let ascent: Vec<f64> = toy.score(toy.target).map(|score| -outcome.target_gradient[0][0] * score).collect();
    assert!(largest_error(&ascent, &toy.exact_gradient(), 1.0) < 1e-15);
    assert!((outcome.loss - (1.0 - toy.probabilities[0])).abs() < 1e-15);
}
