//! The objective against PyTorch: loss, parts, advantages, selection and every entry of the gradient.

use crate::golden;
use riser_core::objective::{Group, ObjectiveConfig, Outcome, evaluate};
use serde::Deserialize;
use std::{fmt::Debug, path::Path};

/// Absolute below 1, relative above.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Case {
    config: ObjectiveConfig,
    groups: Vec<Group>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    policy_loss: f64,
    simpo_loss: f64,
    passed: Vec<usize>,
    failed: Vec<usize>,
    pairs: usize,
    advantages: Vec<Option<Vec<f64>>>,
    kl_selected: Vec<(usize, usize, usize)>,
    gradient: Vec<Vec<Vec<f64>>>,
    target_gradient: Vec<Vec<f64>>,
}

#[test]
fn the_objective_agrees_with_pytorch_on_every_case() {
    let cases = golden::cases("objective", |path| path.extension().is_some_and(|extension| extension == "json"));
    let differences: Vec<String> = cases.iter().flat_map(|path| differences(path)).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn a_golden_case_that_is_wrong_in_one_entry_is_found_out() {
    let mut comparison = Comparison { file: "case.json".to_owned(), differences: Vec::new() };
    comparison.numbers("gradient[0]", &[1.0, f64::NAN, 3.0], &[1.0 + 1e-10, 2.0, 3.0 + 1e-8]);
    comparison.numbers("gradient[1]", &[1.0], &[]);
    comparison.exact("pairs", &1, &2);
    assert_eq!(
        comparison.differences,
        [
            "case.json: gradient[0][1] is NaN, expected 2",
            "case.json: gradient[0][2] is 3, expected 3.00000001",
            "case.json: gradient[1] has 1 entries, expected 0",
            "case.json: pairs is 1, expected 2",
        ]
    );
}

/// Everything in which the objective disagrees with one case, by file and entry.
fn differences(path: &Path) -> Vec<String> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = || -> anyhow::Result<(Expected, Outcome)> {
        let Case { config, groups, expected } = serde_json::from_slice(&std::fs::read(path)?)?;
        Ok((expected, evaluate(&config, &groups)?))
    };
    let mut comparison = Comparison { file, differences: Vec::new() };
    match read() {
        Ok((expected, outcome)) => comparison.outcome(&outcome, &expected),
        Err(error) => comparison.report(format!("{error:#}")),
    }
    comparison.differences
}

struct Comparison {
    file: String,
    differences: Vec<String>,
}

impl Comparison {
    fn outcome(&mut self, got: &Outcome, expected: &Expected) {
        self.number("loss", got.loss, expected.loss);
        self.number("policy_loss", got.policy_loss, expected.policy_loss);
        self.number("simpo_loss", got.simpo_loss, expected.simpo_loss);
        self.exact("passed", &got.passed, &expected.passed);
        self.exact("failed", &got.failed, &expected.failed);
        self.exact("pairs", &got.pairs, &expected.pairs);
        self.exact("kl_selected", &got.kl_selected, &expected.kl_selected);
        self.each("advantages", &got.advantages, &expected.advantages, |this, entry, got, expected| {
            match (got, expected) {
                (Some(got), Some(expected)) => this.numbers(entry, got, expected),
                _ => this.exact(entry, got, expected),
            }
        });
        self.each("gradient", &got.gradient, &expected.gradient, |this, entry, got, expected| {
            this.each(entry, got, expected, |this, entry, got, expected| this.numbers(entry, got, expected));
        });
        self.each("target_gradient", &got.target_gradient, &expected.target_gradient, |this, entry, got, expected| {
            this.numbers(entry, got, expected);
        });
    }

    fn numbers(&mut self, entry: &str, got: &[f64], expected: &[f64]) {
        self.each(entry, got, expected, |this, entry, &got, &expected| this.number(entry, got, expected));
    }

    /// Compares entry by entry, after the lengths.
    fn each<T>(&mut self, entry: &str, got: &[T], expected: &[T], compare: impl Fn(&mut Self, &str, &T, &T)) {
        if got.len() != expected.len() {
            return self.report(format!("{entry} has {} entries, expected {}", got.len(), expected.len()));
        }
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            compare(self, &format!("{entry}[{index}]"), got, expected);
        }
    }

    fn number(&mut self, entry: &str, got: f64, expected: f64) {
        let is_close = (got - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
        if !is_close {
            self.report(format!("{entry} is {got}, expected {expected}"));
        }
    }

    fn exact<T: PartialEq + Debug>(&mut self, entry: &str, got: &T, expected: &T) {
        if got != expected {
            self.report(format!("{entry} is {got:?}, expected {expected:?}"));
        }
    }

    fn report(&mut self, difference: String) {
        self.differences.push(format!("{}: {difference}", self.file));
    }
}
