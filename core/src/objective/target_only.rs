//! Objectives that look at the target alone, and need no completions.

use super::{Group, outcome::Gradient};
use serde::{Deserialize, Serialize};

/// The family of target-only losses, averaged over all groups of the batch.
///
/// ```text
/// L_kappa = -(p^kappa - 1) / kappa,   p = exp(sum_t l_t of the target)        (method 5.1)
///
/// kappa -> 0   -log p: continued supervised training
/// kappa  = 1   1 - p:  the exact gradient of the expected hit reward, which every sampled method estimates
/// ```
///
/// It is exactly the expected reward in catalog space, where the probabilities of all items sum to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetOnly {
    /// Weight of easy targets, from 0 (all alike) up: the gradient on `log p` is `p^kappa`.
    pub kappa: f64,
}

impl TargetOnly {
    /// The mean loss over the groups; adds its gradient to `gradient`.
    pub(super) fn loss(self, groups: &[Group], gradient: &mut Gradient) -> f64 {
        let share = 1.0 / groups.len() as f64;
        let mut loss = 0.0;
        for (group, entries) in groups.iter().zip(&mut gradient.targets) {
            let log_p: f64 = group.target.logprob.iter().sum();
            let power = self.kappa * log_p;
            // p^kappa - 1 by exp_m1, so that a small kappa loses no digits
            loss -= share * if self.kappa == 0.0 { log_p } else { power.exp_m1() / self.kappa };
            entries.fill(-share * power.exp());
        }
        loss
    }
}
