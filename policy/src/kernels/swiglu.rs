//! The gated activation of the feed-forward block: `y = silu(gate) * up`, `silu(g) = g sigmoid(g)`.

use super::{
    BLOCK_ROWS, Kernels, lanes,
    storage::{slice, tensor, with_slices},
};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Elementwise `silu(gate) * up`; all shapes equal.
pub(crate) fn swiglu(kernels: Kernels, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    match kernels {
        Kernels::Fused => gate.apply_op2(up, SwiGlu),
        Kernels::Composed => gate.silu()? * up,
    }
}

struct SwiGlu;

#[inline(always)]
fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + lanes::exp(-value))
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice(s1, l1)?, slice(s2, l2)?);
        let mut y = vec![0.0; gate.len()];
        y.par_iter_mut()
            .zip(gate.par_iter().zip(up))
            .with_min_len(BLOCK_ROWS * 64)
            .for_each(|(y, (&gate, &up))| *y = gate * sigmoid(gate) * up);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        with_slices([gate, up, dy], |[gates, ups, dys]| {
            let mut dgate = vec![0.0; gates.len()];
            let mut dup = vec![0.0; gates.len()];
            (dgate.par_iter_mut().zip(dup.par_iter_mut()))
                .zip(gates.par_iter().zip(ups).zip(dys))
                .with_min_len(BLOCK_ROWS * 64)
                .for_each(|((dgate, dup), ((&gate, &up), &dy))| {
                    let sigmoid = sigmoid(gate);
                    *dup = dy * gate * sigmoid;
                    *dgate = dy * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
                });
            Ok((Some(tensor(dgate, gate.shape())?), Some(tensor(dup, up.shape())?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};
    use super::*;

    #[test]
    fn fused_and_composed_agree_in_values_and_gradients() {
        let (gate, up) = (wave(&[50, 24], 0.3), wave(&[50, 24], 0.7));
        assert_forms_agree(&[&gate, &up], |kernels, args| swiglu(kernels, &args[0], &args[1]));
    }
}
