//! Attention of a token forest: trunk tokens see the trunk before them, branch tokens see the whole trunk and their own
//! ancestors. No `[T, T]` mask exists; what a row sees is one contiguous span of keys plus a short list.
//!
//! ```text
//! s_ij = scale q_i . k_j   for j in span(i) and path(i)       p_i = softmax(s_i)       o_i = sum_j p_ij v_j
//! dv_j += p_ij do_i    dp_ij = do_i . v_j    ds_ij = p_ij (dp_ij - sum_l p_il dp_il)    dq_i = scale ds_ij k_j    dk_j += scale ds_ij q_i
//! ```
//! Query heads share key-value heads in groups (grouped-query attention).

mod backward;
mod composed;
mod forward;

pub(crate) use backward::{InputGradients, gradients};
pub(crate) use forward::{Inputs, attend};

use super::{Kernels, storage::slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use std::{ops::Range, sync::Arc};

/// Rows per block in training: small enough that half-empty causal blocks waste little.
pub(crate) const BLOCK: usize = 64;

/// Rows per block where rows are computed behind others that are known: those are whole blocks.
pub(crate) const ROW_BLOCK: usize = 16;

/// Heads and their size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) queries: usize,
    /// Key-value heads; divides `queries`.
    pub(crate) keys: usize,
    /// Width of each head.
    pub(crate) dim: usize,
}

impl Heads {
    fn query_width(self) -> usize {
        self.queries * self.dim
    }

    fn key_width(self) -> usize {
        self.keys * self.dim
    }

    /// Query heads that share one key-value head.
    fn shared(self) -> usize {
        self.queries / self.keys
    }

    fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// Query rows of one tree that see the same span of keys.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Rows of the query matrix.
    pub(crate) rows: Range<usize>,
    /// Key rows seen by all of them (if causal: by the last of them).
    pub(crate) keys: Range<usize>,
    /// Trunk rows: the i-th query row sees only the first `keys.len() - rows.len() + i + 1` keys.
    pub(crate) is_causal: bool,
    /// For the i-th row, further key rows seen: `paths[i].clone()` indexes [`Visibility::path`]. Empty for trunk rows.
    pub(crate) paths: Vec<Range<usize>>,
}

/// What every query row sees. Trees follow each other in row order and share no rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visibility {
    /// Segments of each tree.
    pub(crate) trees: Vec<Vec<Segment>>,
    /// Concatenated ancestor lists (key rows) of branch rows, the row itself last.
    pub(crate) path: Vec<u32>,
    /// Number of query rows in all.
    pub(crate) num_rows: usize,
}

impl Visibility {
    /// Query rows of a tree.
    fn rows(tree: &[Segment]) -> Range<usize> {
        tree.first().map_or(0, |segment| segment.rows.start)..tree.last().map_or(0, |segment| segment.rows.end)
    }
}

/// Attends every query row to what it sees.
///
/// # Shapes
/// - `q`: `[rows, query heads * D]`, `k` and `v`: `[keys, key heads * D]`; returns the shape of `q`
pub(crate) fn attention(
    kernels: Kernels,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    visibility: &Arc<Visibility>,
) -> Result<Tensor> {
    match kernels {
        Kernels::Fused => q.apply_op3(k, v, Attention { heads, visibility: visibility.clone() }),
        Kernels::Composed => composed::attention(q, k, v, heads, visibility),
    }
}

struct Attention {
    heads: Heads,
    visibility: Arc<Visibility>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "forest attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let inputs = Inputs { q: slice(s1, l1)?, k: slice(s2, l2)?, v: slice(s3, l3)?, heads: self.heads };
        let mut out = vec![0.0; l1.shape().elem_count()];
        attend(&inputs, &self.visibility, BLOCK, &mut out);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};
    use super::*;

    /// Two trees: a trunk longer than one block with branches, and a trunk alone.
    fn visibility() -> Visibility {
        let path = vec![70, 70, 71, 70, 71, 72, 73];
        let trunk =
            |rows: Range<usize>| Segment { keys: rows.clone(), paths: vec![0..0; rows.len()], rows, is_causal: true };
        let branch = Segment { rows: 70..74, keys: 0..70, is_causal: false, paths: vec![0..1, 1..3, 3..6, 6..7] };
        Visibility { trees: vec![vec![trunk(0..70), branch], vec![trunk(74..83)]], path, num_rows: 83 }
    }

    #[test]
    fn tape_and_composed_agree_in_values_and_gradients() {
        let heads = Heads { queries: 4, keys: 2, dim: 6 };
        let (q, k, v) = (wave(&[83, 24], 0.3), wave(&[83, 12], 0.7), wave(&[83, 12], 1.9));
        let visibility = Arc::new(visibility());
        assert_forms_agree!([q, k, v], [], |ops, args, _weights| {
            ops.attention(&args[0], &args[1], &args[2], heads, &visibility)
        });
    }
}
