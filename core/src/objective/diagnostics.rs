//! What to watch beside the losses.

use super::{Estimator, Group, ObjectiveConfig, Routing, policy_loss::Token};
use serde::{Deserialize, Serialize};

/// Health of one optimizer batch; all numbers are dimensionless except where noted.
///
/// Shares over an empty set are 0. A mean is `None` where the batch holds nothing to take it over, for example because the
/// method samples no completions.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Diagnostics {
    /// Mean reward of all completions.
    pub mean_reward: Option<f64>,
    /// Share of groups with a hit and contrasting rewards.
    pub pass_share: f64,
    /// Share of groups without a hit.
    pub all_miss_share: f64,
    /// Share of groups with a hit but equal rewards.
    pub all_hit_share: f64,
    /// Share of the tokens of passing groups on which the clip acted.
    pub clip_fraction: f64,
    /// Share of the tokens of passing groups that KL-Cov selected.
    pub kl_cov_fraction: f64,
    /// Share of the tokens selected by KL-Cov that are forced.
    pub kl_cov_forced_share: f64,
    /// Mean importance ratio of all tokens; 1 on fresh samples.
    pub mean_ratio: Option<f64>,
    /// Mean divergence from the anchor by the k3 estimate, in nats, of all tokens whose log-probability under the anchor was
    /// given.
    pub anchor_kl: Option<f64>,
    /// Mean |logprob - behaviour_logprob| of all tokens, in nats: the mismatch of worker and learner on fresh samples.
    pub mismatch_mean: Option<f64>,
    /// Largest |logprob - behaviour_logprob|, in nats.
    pub mismatch_max: Option<f64>,
}

/// Measures a batch; `tokens` are those of its passing groups.
pub(super) fn measure(config: &ObjectiveConfig, groups: &[Group], routing: &Routing, tokens: &[Token]) -> Diagnostics {
    let completions = || groups.iter().flat_map(|group| &group.completions);
    let of_groups = |indices: &[usize]| share(indices.len(), groups.len());
    let log_ratios = || {
        let pairs = completions().flat_map(|it| it.logprob.iter().zip(&it.behaviour_logprob));
        pairs.map(|(logprob, behaviour)| logprob - behaviour)
    };
    let divergences = completions().flat_map(|it| {
        let pairs = it.logprob.iter().zip(config.kl.anchor.logprobs(it));
        pairs.map(|(&logprob, &anchor)| Estimator::K3.term(logprob, anchor).value)
    });
    let num_selected = tokens.iter().filter(|token| token.is_selected).count();
    let num_selected_forced = tokens.iter().filter(|token| token.is_selected && token.is_forced).count();
    Diagnostics {
        mean_reward: mean(completions().map(|completion| completion.reward)),
        pass_share: of_groups(&routing.passed),
        all_miss_share: of_groups(&routing.failed),
        all_hit_share: of_groups(&routing.all_hit),
        clip_fraction: share(tokens.iter().filter(|token| token.is_clipped).count(), tokens.len()),
        kl_cov_fraction: share(num_selected, tokens.len()),
        kl_cov_forced_share: share(num_selected_forced, num_selected),
        mean_ratio: mean(log_ratios().map(f64::exp)),
        anchor_kl: mean(divergences),
        mismatch_mean: mean(log_ratios().map(f64::abs)),
        mismatch_max: log_ratios().map(f64::abs).reduce(f64::max),
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}
