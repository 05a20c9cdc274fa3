//! Root-mean-square normalisation of rows.
//!
//! ```text
//! y_h = w_h x_h / r,   r = sqrt(mean_h x_h^2 + eps)
//! dx_h = (w_h dy_h - x_h / r^2 * mean_h(w_h dy_h x_h)) / r        dw_h = sum_t dy_h x_h / r
//! ```

use super::{BLOCK_ROWS, Kernels, lanes, storage::slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Normalises every row of `x_th` (`[T, H]`) and scales it by `weight_h` (`[H]`).
pub(crate) fn rms_norm(kernels: Kernels, x_th: &Tensor, weight_h: &Tensor, eps: f64) -> Result<Tensor> {
    match kernels {
        Kernels::Fused => x_th.contiguous()?.apply_op2(weight_h, RmsNorm { eps: eps as f32 }),
        Kernels::Composed => candle_nn::ops::rms_norm_slow(x_th, weight_h, eps as f32),
    }
}

struct RmsNorm {
    eps: f32,
}

fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    let mean = lanes::dot(row, row) / row.len() as f32;
    1.0 / (mean + eps).sqrt()
}

/// Writes `y`.
pub(crate) fn forward(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let width = weight.len();
    y.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(BLOCK_ROWS).for_each(|(y, x)| {
        let inverse = inverse_rms(x, eps);
        y.iter_mut().zip(x.iter().zip(weight)).for_each(|(y, (x, weight))| *y = x * inverse * weight);
    });
}

/// Adds to `dx` and `dweight`.
pub(crate) fn backward(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dweight: &mut [f32]) {
    let width = weight.len();
    // One partial weight gradient per fixed block of rows, summed in block order.
    let block = BLOCK_ROWS * width;
    let partial: Vec<Vec<f32>> = dx
        .par_chunks_mut(block)
        .zip(x.par_chunks(block).zip(dy.par_chunks(block)))
        .map(|(dx, (x, dy))| {
            let (mut dw, mut products) = (vec![0.0; width], vec![0.0; width]);
            for ((dx, x), dy) in dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(dy.chunks_exact(width)) {
                let inverse = inverse_rms(x, eps);
                let sums = dw.iter_mut().zip(&mut products);
                for ((dw, product), ((x, dy), weight)) in sums.zip(x.iter().zip(dy).zip(weight)) {
                    let normalised = dy * x;
                    *dw += normalised * inverse;
                    *product = weight * normalised;
                }
                let pull = lanes::sum(&products) * inverse * inverse / width as f32;
                for (dx, ((x, dy), weight)) in dx.iter_mut().zip(x.iter().zip(dy).zip(weight)) {
                    *dx += (weight * dy - x * pull) * inverse;
                }
            }
            dw
        })
        .collect();
    for block in partial {
        dweight.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(s1, l1)?;
        let mut y = vec![0.0; x.len()];
        forward(x, slice(s2, l2)?, self.eps, &mut y);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};

    #[test]
    fn tape_and_composed_agree_in_values_and_gradients() {
        let (x, w) = (wave(&[150, 24], 0.3), wave(&[24], 0.7));
        assert_forms_agree!([x], [w], |ops, args, weights| ops.rms_norm(&args[0], &weights[0], 1e-6));
    }
}
