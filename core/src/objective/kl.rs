//! The divergence penalty: which tokens it touches, from which policy it measures, and how.

use super::{Completion, surrogate::Term};
use serde::{Deserialize, Serialize};

/// The divergence penalty added to a token's loss.
///
/// ```text
/// penalty_t = coefficient * KL_t   for the tokens that `kind` selects, else 0
/// ```
///
/// The RISER paper keeps the penalty only on tokens with a high confidence-advantage covariance; fraction, coefficient,
/// anchor and estimator are our choice (method 1.4). `anchor = behaviour` with `estimator = abs`, coefficient 1 and no
/// clip is the KL-Cov of Cui et al.; its gradient is 0 on strictly on-policy updates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kl {
    /// Which tokens are penalised.
    pub kind: KlKind,
    /// Share of the candidate tokens that `cov` selects, at least one token.
    pub fraction: f64,
    /// Factor of the penalty.
    pub coefficient: f64,
    /// The policy from which the divergence is measured.
    pub anchor: Anchor,
    /// How the divergence of a token is estimated.
    pub estimator: Estimator,
    /// Whether forced tokens are left out of the ranking of `cov`. Needed in catalog space, where they have
    /// log-probability 0, would fill every slot and have no gradient.
    pub exclude_forced: bool,
}

/// Which tokens are penalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlKind {
    /// None.
    None,
    /// Those with the highest covariance of log-probability and advantage.
    Cov,
    /// All.
    Global,
}

/// The policy from which the divergence is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// The frozen supervised checkpoint.
    Reference,
    /// The policy that sampled the completion.
    Behaviour,
}

/// Estimates of the divergence from one sampled token, with `l` its log-probability.
///
/// ```text
/// k3    exp(d) - d - 1,  d = anchor - l      unbiased for KL(policy, anchor) and never negative
/// abs   |l - anchor|                         what KL-Cov's authors use; slope 0 where both agree
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// `exp(d) - d - 1`.
    K3,
    /// The absolute difference.
    Abs,
}

impl Anchor {
    /// The anchor's log-probabilities of a completion; empty if they were not given.
    pub(super) fn logprobs(self, completion: &Completion) -> &[f64] {
        match self {
            Self::Reference => &completion.reference_logprob,
            Self::Behaviour => &completion.behaviour_logprob,
        }
    }
}

impl Estimator {
    pub(super) fn term(self, logprob: f64, anchor: f64) -> Term {
        let difference = anchor - logprob;
        match self {
            // exp_m1 keeps the digits of the small differences that are the rule
            Self::K3 => Term { value: difference.exp_m1() - difference, slope: -difference.exp_m1() },
            Self::Abs if difference == 0.0 => Term { value: 0.0, slope: 0.0 },
            Self::Abs => Term { value: difference.abs(), slope: -difference.signum() },
        }
    }
}
