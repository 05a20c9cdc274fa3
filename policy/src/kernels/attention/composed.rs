//! The same attention from candle's tensor operations: dense scores per segment with an additive mask.

use super::{Heads, Segment, Visibility};
use candle_core::{D, Result, Tensor};

/// Stands for minus infinity; a true infinity would give NaN gradients for rows that see nothing there.
const MASKED: f32 = -1e30;

/// See [`super::attention`].
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, visibility: &Visibility) -> Result<Tensor> {
    let parts: Vec<Tensor> = visibility
        .trees
        .iter()
        .flatten()
        .map(|segment| of_segment(q, k, v, heads, segment, visibility))
        .collect::<Result<_>>()?;
    Tensor::cat(&parts, 0)
}

fn of_segment(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    segment: &Segment,
    visibility: &Visibility,
) -> Result<Tensor> {
    let device = q.device();
    // Keys: the span, then every row that some path names, each once.
    let mut path_keys: Vec<u32> =
        segment.paths.iter().flat_map(|path| &visibility.path[path.clone()]).copied().collect();
    path_keys.sort_unstable();
    path_keys.dedup();
    let keys: Vec<u32> = segment.keys.clone().map(|key| key as u32).chain(path_keys.iter().copied()).collect();
    let (rows, num_keys, span) = (segment.rows.len(), keys.len(), segment.keys.len());
    let mut mask = vec![MASKED; rows * num_keys];
    for (i, mask) in mask.chunks_exact_mut(num_keys).enumerate() {
        let seen = if segment.is_causal { span - (rows - 1 - i) } else { span };
        mask[..seen].fill(0.0);
        for key in &visibility.path[segment.paths[i].clone()] {
            if let Ok(at) = path_keys.binary_search(key) {
                mask[span + at] = 0.0;
            }
        }
    }
    let mask = Tensor::from_vec(mask, (1, rows, num_keys), device)?;
    let keys = Tensor::from_vec(keys, num_keys, device)?;
    // [heads, rows or keys, D], key-value heads repeated for the query heads that share them.
    let by_head = |t: &Tensor, count: usize| t.reshape((t.dim(0)?, count, heads.dim))?.transpose(0, 1)?.contiguous();
    let repeat = |t: Tensor| {
        t.unsqueeze(1)?
            .broadcast_as((heads.keys, heads.shared(), num_keys, heads.dim))?
            .reshape((heads.queries, num_keys, heads.dim))?
            .contiguous()
    };
    let q = by_head(&q.narrow(0, segment.rows.start, rows)?, heads.queries)?;
    let k = repeat(by_head(&k.index_select(&keys, 0)?, heads.keys)?)?;
    let v = repeat(by_head(&v.index_select(&keys, 0)?, heads.keys)?)?;
    let scores = (q.matmul(&k.t()?)? * f64::from(heads.scale()))?.broadcast_add(&mask)?;
    let out = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
    out.transpose(0, 1)?.reshape((rows, heads.queries * heads.dim))
}
