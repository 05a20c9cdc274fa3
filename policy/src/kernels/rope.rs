//! Rotary position embedding in the half-split form of Qwen2.
//!
//! ```text
//! angle(p, c) = p * theta^(-2c / D)      c = 0 .. D/2
//! y_c       = x_c cos - x_{c + D/2} sin
//! y_{c+D/2} = x_{c + D/2} cos + x_c sin
//! ```
//! The backward pass is the rotation by the opposite angle.

use super::{BLOCK_ROWS, Kernels, storage::slice};
use crate::shape::{self, RotaryPrecision};
use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Cosines and sines of every row's position.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    /// `[T, D/2]`
    cos: Arc<[f32]>,
    /// `[T, D/2]`
    sin: Arc<[f32]>,
    head_dim: usize,
}

impl Rotation {
    /// Angles are computed in f64: at position 10^5 an f32 angle is off by 1e-2.
    pub(crate) fn new(positions: &[u32], shape: &shape::Shape) -> Self {
        let head_dim = shape.head_dim();
        let frequency = |c: usize| {
            let exact = shape.rope_theta.powf(-2.0 * c as f64 / head_dim as f64);
            match shape.rotary_precision {
                RotaryPrecision::F32 => exact,
                RotaryPrecision::Bf16 => half::bf16::from_f64(exact).to_f64(),
            }
        };
        let frequencies: Vec<f64> = (0..head_dim / 2).map(frequency).collect();
        // Rows repeat positions, and a sine costs far more than a look-up.
        let mut distinct = positions.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let angles = || distinct.iter().flat_map(|&p| frequencies.iter().map(move |f| f64::from(p) * f));
        let cos: Vec<f32> = angles().map(|angle| angle.cos() as f32).collect();
        let sin: Vec<f32> = angles().map(|angle| angle.sin() as f32).collect();
        let half = head_dim / 2;
        let rows = |table: &[f32]| -> Arc<[f32]> {
            let of_position = |p: &u32| distinct.partition_point(|other| other < p) * half;
            positions.iter().flat_map(|p| &table[of_position(p)..][..half]).copied().collect()
        };
        Self { cos: rows(&cos), sin: rows(&sin), head_dim }
    }

    /// Rotates every head of every row in place: forward, or backward by the opposite angle.
    pub(crate) fn rotate(&self, x: &mut [f32], width: usize, turn: Turn) {
        let half = self.head_dim / 2;
        let direction = match turn {
            Turn::Forward => 1.0,
            Turn::Back => -1.0,
        };
        x.par_chunks_mut(width).enumerate().with_min_len(BLOCK_ROWS).for_each(|(row, x)| {
            let (cos, sin) = (&self.cos[row * half..][..half], &self.sin[row * half..][..half]);
            for head in x.chunks_exact_mut(self.head_dim) {
                let (low, high) = head.split_at_mut(half);
                for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
                    let sin = direction * sin;
                    (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
                }
            }
        });
    }

    fn composed(&self, x_tw: &Tensor) -> Result<Tensor> {
        let (rows, width) = x_tw.dims2()?;
        let (heads, half) = (width / self.head_dim, self.head_dim / 2);
        let angle =
            |values: &[f32]| Tensor::from_slice(values, (rows, 1, half), &Device::Cpu)?.to_device(x_tw.device());
        let (cos, sin) = (angle(&self.cos)?, angle(&self.sin)?);
        let x = x_tw.reshape((rows, heads, self.head_dim))?;
        let (low, high) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let y_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let y_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        Tensor::cat(&[y_low, y_high], D::Minus1)?.reshape((rows, width))
    }
}

/// Which way to rotate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Turn {
    Forward,
    Back,
}

/// Rotates every head of every row of `x_tw` (`[T, heads * D]`) by its position.
pub(crate) fn rope(kernels: Kernels, x_tw: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    match kernels {
        Kernels::Fused => x_tw.apply_op1(Rope(rotation.clone())),
        Kernels::Composed => rotation.composed(x_tw),
    }
}

struct Rope(Rotation);

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let mut y = slice(storage, layout)?.to_vec();
        self.0.rotate(&mut y, width, Turn::Forward);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};
    use super::*;

    #[test]
    fn tape_and_composed_agree_in_values_and_gradients() {
        let positions: Vec<u32> = (0..40).map(|row| row * 7 % 23).collect();
        // 16 / 2 heads of 8.
        let shape = shape::Shape { num_attention_heads: 2, ..crate::testing::tiny_shape() };
        let rotation = Rotation::new(&positions, &shape);
        let x = wave(&[40, 24], 0.3);
        assert_forms_agree!([x], [], |ops, args, _weights| ops.rope(args[0].to_owned(), &rotation));
    }
}
