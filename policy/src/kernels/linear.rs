//! Affine map of rows.
//!
//! ```text
//! y_to = x_ti W_oi^T + b_o        dx = dy W        dW = dy^T x        db = sum_t dy
//! ```

use super::{
    BLOCK_ROWS, Kernels,
    matrix::{Mat, MatMut, Store, matmul},
    storage::slice,
};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Rows of a weight gradient per job. Small, so that even a square layer is spread over the cores.
const WEIGHT_ROWS: usize = 48;

/// Applies `y = x W^T + b` to every row.
///
/// # Shapes
/// - `x_ti`: `[T, I]`, `weight_oi`: `[O, I]`, `bias_o`: `[O]`; returns `[T, O]`
pub(crate) fn linear(kernels: Kernels, x_ti: &Tensor, weight_oi: &Tensor, bias_o: Option<&Tensor>) -> Result<Tensor> {
    match (kernels, bias_o) {
        (Kernels::Fused, Some(bias_o)) => x_ti.contiguous()?.apply_op3(weight_oi, bias_o, Linear),
        (Kernels::Fused, None) => x_ti.contiguous()?.apply_op2(weight_oi, Linear),
        (Kernels::Composed, Some(bias_o)) => x_ti.matmul(&weight_oi.t()?)?.broadcast_add(bias_o),
        (Kernels::Composed, None) => x_ti.matmul(&weight_oi.t()?),
    }
}

struct Linear;

/// `y = x W^T + b`, or `y += x W^T` onto what is there, with `weight_io` as `W^T`.
pub(crate) fn forward(x: &[f32], weight_io: Mat<'_>, start: Start<'_>, y: &mut [f32]) {
    let (inputs, outputs) = weight_io.dims();
    y.par_chunks_mut(BLOCK_ROWS * outputs).zip(x.par_chunks(BLOCK_ROWS * inputs)).for_each(|(y, x)| {
        let rows = x.len() / inputs;
        let into = match start {
            Start::Nothing => Store::Overwrite,
            Start::Bias(bias) => {
                y.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
                Store::Accumulate
            }
            Start::Present => Store::Accumulate,
        };
        matmul(MatMut::new(y, rows, outputs), into, 1.0, Mat::new(x, rows, inputs), weight_io);
    });
}

/// What the product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Nothing,
    Bias(&'a [f32]),
    /// The content of the destination.
    Present,
}

/// `dx = dy W`, or `dx += dy W`.
pub(crate) fn input_gradient(dy: &[f32], weight: &[f32], inputs: usize, dx: &mut [f32], into: Store) {
    let outputs = weight.len() / inputs;
    dx.par_chunks_mut(BLOCK_ROWS * inputs).zip(dy.par_chunks(BLOCK_ROWS * outputs)).for_each(|(dx, dy)| {
        let rows = dy.len() / outputs;
        let (dy, weight) = (Mat::new(dy, rows, outputs), Mat::new(weight, outputs, inputs));
        matmul(MatMut::new(dx, rows, inputs), into, 1.0, dy, weight);
    });
}

/// `dW = dy^T x`, or `dW += dy^T x`.
pub(crate) fn weight_gradient(x: &[f32], dy: &[f32], inputs: usize, dweight: &mut [f32], into: Store) {
    let (rows, outputs) = (x.len() / inputs, dweight.len() / inputs);
    dweight.par_chunks_mut(WEIGHT_ROWS * inputs).enumerate().for_each(|(block, dweight)| {
        let count = dweight.len() / inputs;
        let dy = Mat::strided(dy.get(block * WEIGHT_ROWS..).unwrap_or_default(), rows, count, outputs);
        matmul(MatMut::new(dweight, count, inputs), into, 1.0, dy.t(), Mat::new(x, rows, inputs));
    });
}

/// `db += sum_t dy`.
pub(crate) fn bias_gradient(dy: &[f32], dbias: &mut [f32]) {
    for row in dy.chunks_exact(dbias.len()) {
        dbias.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

fn out_shape(x: &Layout, weight: &Layout) -> Result<(usize, usize, Shape)> {
    let (rows, inputs) = x.shape().dims2()?;
    let (outputs, columns) = weight.shape().dims2()?;
    if inputs != columns {
        candle_core::bail!("linear: rows of {inputs} meet a weight of {outputs} x {columns}");
    }
    Ok((inputs, outputs, Shape::from((rows, outputs))))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (inputs, outputs, shape) = out_shape(l1, l2)?;
        let mut y = vec![0.0; shape.elem_count()];
        forward(slice(s1, l1)?, Mat::new(slice(s2, l2)?, outputs, inputs).t(), Start::Nothing, &mut y);
        Ok((CpuStorage::F32(y), shape))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear with bias"
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
        let (inputs, outputs, shape) = out_shape(l1, l2)?;
        let mut y = vec![0.0; shape.elem_count()];
        let weight_io = Mat::new(slice(s2, l2)?, outputs, inputs).t();
        forward(slice(s1, l1)?, weight_io, Start::Bias(slice(s3, l3)?), &mut y);
        Ok((CpuStorage::F32(y), shape))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};

    #[test]
    fn tape_and_composed_agree_in_values_and_gradients() {
        // More rows and outputs than one block, neither a multiple of it.
        let (x, w, b) = (wave(&[150, 24], 0.3), wave(&[131, 24], 0.7), wave(&[131], 1.1));
        assert_forms_agree!([x], [w, b], |ops, args, weights| ops.linear(&args[0], &weights[0], Some(&weights[1])));
        assert_forms_agree!([x], [w], |ops, args, weights| ops.linear(&args[0], &weights[0], None));
        let residual = wave(&[150, 131], 1.7);
        assert_forms_agree!([residual, x], [w], |ops, args, weights| {
            ops.linear_onto(&args[0], &args[1], &weights[0])
        });
    }
}
