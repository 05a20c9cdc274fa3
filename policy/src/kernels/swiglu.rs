//! The gated activation of the feed-forward block: `y = silu(gate) * up`, `silu(g) = g sigmoid(g)`.

use super::{BLOCK_ROWS, Kernels, lanes, storage::slice};
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

/// Numbers per job. A plain loop over a slice becomes vector instructions, rayon's over single numbers does not.
const JOB: usize = BLOCK_ROWS * 64;

/// Writes `y`.
pub(crate) fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(JOB).zip(gate.par_chunks(JOB).zip(up.par_chunks(JOB))).for_each(|(y, (gate, up))| {
        y.iter_mut().zip(gate.iter().zip(up)).for_each(|(y, (&gate, &up))| *y = gate * sigmoid(gate) * up);
    });
}

/// Turns `gate` and `up` into their gradients.
pub(crate) fn backward(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    let of_number = |((gate, up), &dy): ((&mut f32, &mut f32), &f32)| {
        let sigmoid = sigmoid(*gate);
        let dgate = dy * *up * sigmoid * (1.0 + *gate * (1.0 - sigmoid));
        (*gate, *up) = (dgate, dy * *gate * sigmoid);
    };
    gate.par_chunks_mut(JOB)
        .zip(up.par_chunks_mut(JOB))
        .zip(dy.par_chunks(JOB))
        .for_each(|((gate, up), dy)| gate.iter_mut().zip(up).zip(dy).for_each(of_number));
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice(s1, l1)?, slice(s2, l2)?);
        let mut y = vec![0.0; gate.len()];
        forward(gate, up, &mut y);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};

    #[test]
    fn tape_and_composed_agree_in_values_and_gradients() {
        let (gate, up) = (wave(&[50, 24], 0.3), wave(&[50, 24], 0.7));
        assert_forms_agree!([gate, up], [], |ops, args, _weights| ops.swiglu(&args[0], &args[1]));
    }
}
