//! Root-mean-square normalisation of rows.
//!
//! ```text
//! y_h = w_h x_h / r,   r = sqrt(mean_h x_h^2 + eps)
//! dx_h = (w_h dy_h - x_h / r^2 * mean_h(w_h dy_h x_h)) / r        dw_h = sum_t dy_h x_h / r
//! ```

use super::{
    BLOCK_ROWS, Kernels, lanes,
    storage::{slice, tensor, with_slices},
};
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

impl RmsNorm {
    fn inverse_rms(&self, row: &[f32]) -> f32 {
        let mean = lanes::dot(row, row) / row.len() as f32;
        1.0 / (mean + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(s1, l1)?, slice(s2, l2)?);
        let width = weight.len();
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(BLOCK_ROWS).for_each(|(y, x)| {
            let inverse = self.inverse_rms(x);
            for h in 0..width {
                y[h] = x[h] * inverse * weight[h];
            }
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        with_slices([x, weight, dy], |[xs, ws, dys]| {
            let width = ws.len();
            let mut dx = vec![0.0; xs.len()];
            // One partial weight gradient per fixed block of rows, summed in block order.
            let block = BLOCK_ROWS * width;
            let partial: Vec<Vec<f32>> = dx
                .par_chunks_mut(block)
                .zip(xs.par_chunks(block).zip(dys.par_chunks(block)))
                .map(|(dx, (x, dy))| {
                    let (mut dw, mut products) = (vec![0.0; width], vec![0.0; width]);
                    for ((dx, x), dy) in
                        dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(dy.chunks_exact(width))
                    {
                        let inverse = self.inverse_rms(x);
                        for h in 0..width {
                            let normalised = dy[h] * x[h];
                            dw[h] += normalised * inverse;
                            products[h] = ws[h] * normalised;
                        }
                        let pull = lanes::sum(&products) * inverse * inverse / width as f32;
                        for h in 0..width {
                            dx[h] = (ws[h] * dy[h] - x[h] * pull) * inverse;
                        }
                    }
                    dw
                })
                .collect();
            let mut dw = vec![0.0; width];
            for block in partial {
                dw.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
            }
            Ok((Some(tensor(dx, x.shape())?), Some(tensor(dw, weight.shape())?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};
    use super::*;

    #[test]
    fn fused_and_composed_agree_in_values_and_gradients() {
        let (x, w) = (wave(&[150, 24], 0.3), wave(&[24], 0.7));
        assert_forms_agree(&[&x, &w], |kernels, args| rms_norm(kernels, &args[0], &args[1], 1e-6));
    }
}
