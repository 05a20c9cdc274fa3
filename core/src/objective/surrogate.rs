//! Policy-gradient surrogates: the loss of one token.

use serde::{Deserialize, Serialize};

/// What is maximised for a token with advantage `A`, log-probability `l` and `ratio = exp(l - behaviour)`.
///
/// ```text
/// grpo        min(ratio * A, clip(ratio) * A)             clipped importance ratio, as in PPO (method 1.2)
/// reinforce   A * l                                       no importance correction
/// cispo       stop_gradient(clip(ratio)) * A * l          clips the weight, so no token loses its gradient (MiniMax-M1)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surrogate {
    /// The clipped importance ratio of PPO and GRPO.
    Grpo,
    /// The score function times the advantage.
    Reinforce,
    /// The score function times the advantage and a clipped, constant importance weight.
    Cispo,
}

/// The range `[1 - low, 1 + high]` of the importance ratio.
///
/// It is inert on strictly on-policy updates, where every ratio is 1. `low = 1` or `high = inf` leave that side open.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// How far the ratio may fall below 1, from 0 to 1.
    pub low: f64,
    /// How far the ratio may rise above 1.
    pub high: f64,
}

/// A function of a log-probability at one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Term {
    pub(super) value: f64,
    /// Derivative with respect to the current policy's log-probability.
    pub(super) slope: f64,
}

impl Surrogate {
    /// The surrogate of one token and whether the clip acted on it.
    pub(super) fn term(self, clip: Option<Clip>, advantage: f64, logprob: f64, behaviour: f64) -> (Term, bool) {
        let ratio = (logprob - behaviour).exp();
        let clipped_ratio = clip.map_or(ratio, |clip| ratio.clamp(1.0 - clip.low, 1.0 + clip.high));
        match self {
            Self::Grpo => {
                let (free, clipped) = (ratio * advantage, clipped_ratio * advantage);
                let is_clipped = clipped < free;
                let term =
                    if is_clipped { Term { value: clipped, slope: 0.0 } } else { Term { value: free, slope: free } };
                (term, is_clipped)
            }
            Self::Reinforce => (Term { value: advantage * logprob, slope: advantage }, false),
            Self::Cispo => {
                let slope = clipped_ratio * advantage;
                (Term { value: slope * logprob, slope }, clipped_ratio != ratio)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grpo_clip_only_removes_incentives_to_move_further_away() {
        let clip = Some(Clip { low: 0.2, high: 0.28 });
        let at = |ratio: f64, advantage: f64| Surrogate::Grpo.term(clip, advantage, ratio.ln(), 0.0);
        let close = |(term, clipped): (Term, bool), value: f64, slope: f64, expected: bool| {
            assert!((term.value - value).abs() < 1e-12 && (term.slope - slope).abs() < 1e-12 && clipped == expected);
        };
        close(at(1.5, 2.0), 2.56, 0.0, true);
        close(at(0.5, 2.0), 1.0, 1.0, false);
        close(at(1.5, -2.0), -3.0, -3.0, false);
        close(at(0.5, -2.0), -1.6, 0.0, true);
        close(at(1.1, 2.0), 2.2, 2.2, false);
    }

    #[test]
    fn cispo_keeps_the_gradient_of_clipped_tokens() {
        let (term, is_clipped) = Surrogate::Cispo.term(Some(Clip { low: 0.2, high: 0.28 }), 2.0, -1.0, -2.0);
        assert!(is_clipped);
        assert!((term.slope - 2.56).abs() < 1e-12 && (term.value + 2.56).abs() < 1e-12);
    }

    #[test]
    fn an_open_side_does_not_clip() {
        let open = Some(Clip { low: 1.0, high: f64::INFINITY });
        for logprob in [-9.0, -1.0, 0.0] {
            assert_eq!(
                Surrogate::Grpo.term(open, -1.5, logprob, -4.0),
                Surrogate::Grpo.term(None, -1.5, logprob, -4.0)
            );
        }
    }
}
