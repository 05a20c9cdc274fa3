//! KL-Cov: the tokens that drive the entropy down.

/// What the ranking looks at, for one token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) advantage: f64,
    pub(super) logprob: f64,
}

/// Selects the tokens with the highest covariance of log-probability and advantage.
///
/// ```text
/// cov_t = (A_t - mean A) * (l_t - mean l)                  (method 1.4, from the authors' source)
/// selected: the max(1, floor(N * fraction)) largest, ties to the lower index
/// ```
///
/// The means are those of the candidates, so of the whole optimizer batch rather than of a micro-batch (our choice: the
/// result must not depend on packing). Nothing is differentiated through the selection.
///
/// # Shapes
/// - `candidates`: `[N]`; returns positions in it, ascending
pub(super) fn select(candidates: &[Candidate], fraction: f64) -> Vec<usize> {
    if candidates.is_empty() {
        return Vec::new();
    }
    let count = candidates.len() as f64;
    let mean_advantage = candidates.iter().map(|token| token.advantage).sum::<f64>() / count;
    let mean_logprob = candidates.iter().map(|token| token.logprob).sum::<f64>() / count;
    let mut ranking: Vec<(f64, usize)> = candidates
        .iter()
        .enumerate()
        // adding 0 turns -0 into 0, which total_cmp would rank below
        .map(|(index, token)| ((token.advantage - mean_advantage) * (token.logprob - mean_logprob) + 0.0, index))
        .collect();
    ranking.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let num_selected = ((count * fraction).floor() as usize).clamp(1, candidates.len());
    let mut selected: Vec<usize> = ranking[..num_selected].iter().map(|&(_, index)| index).collect();
    selected.sort_unstable();
    selected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(pairs: &[(f64, f64)]) -> Vec<Candidate> {
        pairs.iter().map(|&(advantage, logprob)| Candidate { advantage, logprob }).collect()
    }

    #[test]
    fn an_improbable_miss_can_outrank_a_confident_hit() {
        // covariances 2.45, -2.25, -1.35, 3.35 (method 1.4)
        let tokens = candidates(&[(3.75, -0.1), (-0.25, -0.2), (3.75, -2.0), (-0.25, -3.0)]);
        assert_eq!(select(&tokens, 0.0), [3]);
        assert_eq!(select(&tokens, 0.5), [0, 3]);
        assert_eq!(select(&tokens, 0.75), [0, 2, 3]);
        assert_eq!(select(&tokens, 1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn ties_go_to_the_lower_index_whatever_the_sign_of_zero() {
        assert_eq!(select(&candidates(&[(1.0, -1.0), (1.0, -2.0), (1.0, -3.0)]), 0.4), [0]);
        assert_eq!(select(&[], 0.4), [] as [usize; 0]);
    }
}
