//! How the two losses become one.

use super::Routing;
use serde::{Deserialize, Serialize};

/// The weights of the two losses.
///
/// ```text
/// by_group       L = policy_weight * (passing / groups) * L_policy + simpo_weight * (failing / groups) * L_simpo
/// sum_of_means   L = policy_weight * L_policy + simpo_weight * L_simpo
/// ```
///
/// (method 1.7; the RISER paper states the sum and leaves the weight open.) `by_group` is our choice: with one group in
/// ten passing, `sum_of_means` would multiply each passing group's weight by ten and make the effective learning rate
/// depend on the hit rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combine {
    /// How the number of groups enters.
    pub rule: CombineRule,
    /// Factor of the policy loss; 0 leaves the preference loss alone.
    #[serde(default = "one")]
    pub policy_weight: f64,
    /// Factor of the preference loss; 0 leaves the policy loss alone.
    pub simpo_weight: f64,
}

/// How the number of passing and failing groups enters the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CombineRule {
    /// Each loss counts by its share of all groups of the batch.
    ByGroup,
    /// Each loss is averaged over its own groups only.
    SumOfMeans,
}

/// The factors of the two losses in the total.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weights {
    pub(super) policy: f64,
    pub(super) simpo: f64,
}

impl Combine {
    pub(super) fn weights(&self, routing: &Routing, num_groups: usize) -> Weights {
        let share = |groups: &[usize]| match self.rule {
            CombineRule::ByGroup => groups.len() as f64 / num_groups as f64,
            CombineRule::SumOfMeans => 1.0,
        };
        Weights {
            policy: self.policy_weight * share(&routing.passed),
            simpo: self.simpo_weight * share(&routing.failed),
        }
    }
}

fn one() -> f64 {
    1.0
}
