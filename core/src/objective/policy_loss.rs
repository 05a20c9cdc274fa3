//! The policy loss of passing groups.

use super::{
    Group, KlKind, ObjectiveConfig,
    kl_cov::{self, Candidate},
    outcome::Gradient,
};

/// The policy loss and what became of each token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PolicyLoss {
    pub(super) loss: f64,
    /// The part of `loss` that is divergence penalty.
    pub(super) kl_penalty: f64,
    /// `[group, completion, token]` of the tokens KL-Cov selected, ascending.
    pub(super) kl_selected: Vec<(usize, usize, usize)>,
    pub(super) tokens: Vec<Token>,
}

/// A token of a passing group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token {
    place: (usize, usize, usize),
    advantage: f64,
    logprob: f64,
    behaviour: f64,
    anchor: f64,
    /// Mask weight times the aggregate's factor: the token's share of the loss.
    weight: f64,
    pub(super) is_forced: bool,
    pub(super) is_clipped: bool,
    /// Selected by KL-Cov.
    pub(super) is_selected: bool,
}

/// Evaluates the policy loss and adds `weight` times its gradient to `gradient`.
///
/// ```text
/// L = sum_t scale_t * M_t * (-surrogate_t + penalty_t)             (method 1.2)
/// ```
///
/// with `M` of [`Mask`](super::Mask), `scale` of [`Aggregate`](super::Aggregate) and the advantages of the surrogate at the
/// [`Level`](super::Level), the sum over all tokens of the groups that have advantages.
pub(super) fn evaluate(
    config: &ObjectiveConfig,
    groups: &[Group],
    advantages: &[Option<Vec<f64>>],
    weight: f64,
    gradient: &mut Gradient,
) -> PolicyLoss {
    let mut tokens = tokens(config, groups, advantages);
    if config.kl.kind == KlKind::Cov {
        mark_selected(config, &mut tokens);
    }
    let (mut loss, mut kl_penalty) = (0.0, 0.0);
    for token in &mut tokens {
        let (surrogate, is_clipped) =
            config.surrogate.term(config.clip, token.advantage, token.logprob, token.behaviour);
        token.is_clipped = is_clipped;
        let (mut value, mut slope) = (-surrogate.value, -surrogate.slope);
        if config.kl.kind == KlKind::Global || token.is_selected {
            let divergence = config.kl.estimator.term(token.logprob, token.anchor);
            value += config.kl.coefficient * divergence.value;
            slope += config.kl.coefficient * divergence.slope;
            kl_penalty += token.weight * config.kl.coefficient * divergence.value;
        }
        loss += token.weight * value;
        let (group, completion, position) = token.place;
        gradient.completions[group][completion][position] += weight * token.weight * slope;
    }
    let kl_selected = tokens.iter().filter(|token| token.is_selected).map(|token| token.place).collect();
    PolicyLoss { loss, kl_penalty, kl_selected, tokens }
}

/// Lists the tokens of all groups that have advantages, in order.
fn tokens(config: &ObjectiveConfig, groups: &[Group], advantages: &[Option<Vec<f64>>]) -> Vec<Token> {
    let passed = || {
        let all = groups.iter().zip(advantages).enumerate();
        all.filter_map(|(index, (group, advantages))| Some((index, group, advantages.as_ref()?)))
    };
    let mut scales = config.aggregate.scales(config.mask, passed().map(|(_, group, _)| group)).into_iter();
    let mut tokens = Vec::new();
    for (group_index, group, advantages) in passed() {
        let advantages = config.advantage.of_tokens(group, advantages);
        for (completion_index, (completion, advantages)) in group.completions.iter().zip(advantages).enumerate() {
            let scale = scales.next().expect("one scale per completion of passing groups");
            let anchors = config.kl.anchor.logprobs(completion);
            for (position, mask) in config.mask.weights(completion.masked()).enumerate() {
                let logprob = completion.logprob[position];
                tokens.push(Token {
                    place: (group_index, completion_index, position),
                    advantage: advantages[position],
                    logprob,
                    // validation lets these lists be empty only where they cannot matter
                    behaviour: completion.behaviour_logprob.get(position).copied().unwrap_or(logprob),
                    anchor: anchors.get(position).copied().unwrap_or(logprob),
                    weight: scale * mask,
                    is_forced: completion.children[position] == 1,
                    is_clipped: false,
                    is_selected: false,
                });
            }
        }
    }
    tokens
}

fn mark_selected(config: &ObjectiveConfig, tokens: &mut [Token]) {
    let eligible: Vec<usize> =
        (0..tokens.len()).filter(|&index| !(config.kl.exclude_forced && tokens[index].is_forced)).collect();
    let candidates: Vec<Candidate> = eligible
        .iter()
        .map(|&index| Candidate { advantage: tokens[index].advantage, logprob: tokens[index].logprob })
        .collect();
    for selected in kl_cov::select(&candidates, config.kl.fraction) {
        tokens[eligible[selected]].is_selected = true;
    }
}
