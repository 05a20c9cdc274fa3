//! What a reinforcement step reports.

use super::forest::GroupForest;
use crate::kernels::score::Measured;
use riser_core::{
    group::RolloutGroup,
    objective::{Diagnostics, Outcome},
};
use serde::Serialize;

/// One batch of groups, in numbers. Averages over optimizer steps are weighted by their groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReinforceReport {
    /// Total loss.
    pub loss: f64,
    /// Policy loss of passing groups.
    pub policy_loss: f64,
    /// Its divergence penalty.
    pub kl_penalty: f64,
    /// Preference loss of failing groups.
    pub simpo_loss: f64,
    /// Loss of a target-only objective.
    pub target_loss: f64,
    /// Preference pairs.
    pub pairs: usize,
    /// Health of the batch.
    #[serde(flatten)]
    pub diagnostics: Diagnostics,
    /// Share of groups whose kept completions hold the target.
    pub hit_share: f64,
    /// Distinct spellings over drawn samples.
    pub unique_rate: f64,
    /// Mean entropy of the full softmax per token in nats (method 1.8, H_tok_full); in vocabulary space only.
    pub token_entropy: Option<f64>,
    /// Mean entropy over children at branching positions in nats (H_branch), of the sampling policy.
    pub branch_entropy: f64,
    /// Estimated entropy over items in nats (H_item), of the sampling policy.
    pub item_entropy: f64,
    /// Mean full-softmax mass on legal children; in vocabulary space only.
    pub legal_mass: Option<f64>,
    /// Gradient norm before clipping, of the last optimizer step.
    pub gradient_norm: f64,
    /// Learning rate of the last optimizer step.
    pub learning_rate: f64,
    /// Forest rows computed.
    pub rows: usize,
    /// Rows a trainer would compute that gives every completion its own copy of the prompt.
    pub naive_rows: usize,
}

/// Sums up a step while its optimizer steps are taken.
pub(super) struct Tally<'g> {
    groups: &'g [RolloutGroup],
    steps: Vec<OptimizerStep>,
    /// (sum, count) of full-softmax entropy and legal mass measured by the learner.
    full: (f64, f64, usize),
    rows: usize,
}

struct OptimizerStep {
    weight: f64,
    outcome: Outcome,
    gradient_norm: f64,
    learning_rate: f64,
}

impl<'g> Tally<'g> {
    pub(super) fn new(groups: &'g [RolloutGroup]) -> Self {
        Self { groups, steps: vec![], full: (0.0, 0.0, 0), rows: 0 }
    }

    /// Notes one forward pass, and the whole-vocabulary quantities measured in it.
    pub(super) fn forward(&mut self, part: &GroupForest<'_>, measured: Option<&Measured>) {
        self.rows += part.forest.num_rows();
        let Some((measured, vocabulary)) = measured.and_then(|it| Some((it, it.vocabulary.as_ref()?))) else {
            return;
        };
        for (decision, entropy) in vocabulary.entropy.iter().enumerate() {
            self.full.0 += f64::from(*entropy);
            self.full.1 += f64::from(measured.legal_mass(decision).unwrap_or(0.0));
            self.full.2 += 1;
        }
    }

    /// Number of positions whose whole vocabulary was measured so far.
    pub(super) fn measured(&self) -> usize {
        self.full.2
    }

    /// Notes one optimizer step on `num_groups` groups.
    pub(super) fn optimizer_step(
        &mut self,
        outcome: Outcome,
        num_groups: usize,
        gradient_norm: f64,
        learning_rate: f64,
    ) {
        let weight = num_groups as f64 / self.groups.len() as f64;
        self.steps.push(OptimizerStep { weight, outcome, gradient_norm, learning_rate });
    }

    pub(super) fn report(self) -> ReinforceReport {
        let mean = |of: &dyn Fn(&Outcome) -> f64| self.steps.iter().map(|step| step.weight * of(&step.outcome)).sum();
        // Means over something that is absent in every step are absent too.
        let mean_some = |of: &dyn Fn(&Diagnostics) -> Option<f64>| {
            let present = self.steps.iter().filter_map(|step| Some((step.weight, of(&step.outcome.diagnostics)?)));
            let (weight, sum) = present.fold((0.0, 0.0), |(w, s), (weight, value)| (w + weight, s + weight * value));
            (weight > 0.0).then(|| sum / weight)
        };
        let diagnostics = Diagnostics {
            mean_reward: mean_some(&|it| it.mean_reward),
            pass_share: mean(&|it| it.diagnostics.pass_share),
            all_miss_share: mean(&|it| it.diagnostics.all_miss_share),
            all_hit_share: mean(&|it| it.diagnostics.all_hit_share),
            clip_fraction: mean(&|it| it.diagnostics.clip_fraction),
            kl_cov_fraction: mean(&|it| it.diagnostics.kl_cov_fraction),
            kl_cov_forced_share: mean(&|it| it.diagnostics.kl_cov_forced_share),
            mean_ratio: mean_some(&|it| it.mean_ratio),
            anchor_kl: mean_some(&|it| it.anchor_kl),
            mismatch_mean: mean_some(&|it| it.mismatch_mean),
            mismatch_max: self.steps.iter().filter_map(|it| it.outcome.diagnostics.mismatch_max).reduce(f64::max),
        };
        let count = self.groups.len().max(1) as f64;
        let over_groups = |of: &dyn Fn(&RolloutGroup) -> f64| self.groups.iter().map(of).sum::<f64>() / count;
        let hits = |group: &RolloutGroup| group.completions.iter().any(|completion| completion.item == group.target);
        let from_workers = |of: &dyn Fn(&RolloutGroup) -> Option<f32>| {
            let values: Option<Vec<f64>> = self.groups.iter().map(|group| of(group).map(f64::from)).collect();
            values.map(|values| values.iter().sum::<f64>() / count)
        };
        let (entropy, mass, positions) = self.full;
        let from_learner = |sum: f64| (positions > 0).then(|| sum / positions as f64);
        let last = self.steps.last();
        ReinforceReport {
            loss: mean(&|it| it.loss),
            policy_loss: mean(&|it| it.policy_loss),
            kl_penalty: mean(&|it| it.kl_penalty),
            simpo_loss: mean(&|it| it.simpo_loss),
            target_loss: mean(&|it| it.target_loss),
            pairs: self.steps.iter().map(|step| step.outcome.pairs).sum(),
            hit_share: over_groups(&|group| f64::from(u8::from(hits(group)))),
            unique_rate: over_groups(&|group| f64::from(group.unique) / f64::from(group.sampled.max(1))),
            token_entropy: from_workers(&|group| group.stats.token_entropy).or(from_learner(entropy)),
            branch_entropy: over_groups(&|group| f64::from(group.stats.branch_entropy)),
            item_entropy: over_groups(&|group| f64::from(group.stats.item_entropy)),
            legal_mass: from_workers(&|group| group.stats.legal_mass).or(from_learner(mass)),
            gradient_norm: last.map_or(0.0, |step| step.gradient_norm),
            learning_rate: last.map_or(0.0, |step| step.learning_rate),
            rows: self.rows,
            naive_rows: self.groups.iter().map(naive_rows).sum(),
            diagnostics,
        }
    }
}

fn naive_rows(group: &RolloutGroup) -> usize {
    let of_completion =
        |completion: &riser_core::group::Completion| group.prompt.len() + group.subtree.path(completion.leaf).len();
    group.completions.iter().map(of_completion).sum()
}
