//! Affine map of rows.
//!
//! ```text
//! y_to = x_ti W_oi^T + b_o        dx = dy W        dW = dy^T x        db = sum_t dy
//! ```

use super::{
    BLOCK_ROWS, Kernels,
    matrix::{Mat, MatMut, Store, matmul},
    storage::{slice, tensor, with_slices},
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

fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let mut y = vec![0.0; x.len() / inputs * outputs];
    y.par_chunks_mut(BLOCK_ROWS * outputs).zip(x.par_chunks(BLOCK_ROWS * inputs)).for_each(|(y, x)| {
        let rows = x.len() / inputs;
        if let Some(bias) = bias {
            y.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
        }
        let into = if bias.is_some() { Store::Accumulate } else { Store::Overwrite };
        let (x, weight) = (Mat::new(x, rows, inputs), Mat::new(weight, outputs, inputs));
        matmul(MatMut::new(y, rows, outputs), into, 1.0, x, weight.t());
    });
    y
}

fn input_gradient(dy: &[f32], weight: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let mut dx = vec![0.0; dy.len() / outputs * inputs];
    dx.par_chunks_mut(BLOCK_ROWS * inputs).zip(dy.par_chunks(BLOCK_ROWS * outputs)).for_each(|(dx, dy)| {
        let rows = dy.len() / outputs;
        let (dy, weight) = (Mat::new(dy, rows, outputs), Mat::new(weight, outputs, inputs));
        matmul(MatMut::new(dx, rows, inputs), Store::Overwrite, 1.0, dy, weight);
    });
    dx
}

fn weight_gradient(x: &[f32], dy: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let mut dweight = vec![0.0; outputs * inputs];
    dweight.par_chunks_mut(WEIGHT_ROWS * inputs).enumerate().for_each(|(block, dweight)| {
        let count = dweight.len() / inputs;
        if rows > 0 {
            let dy = Mat::strided(&dy[block * WEIGHT_ROWS..], rows, count, outputs);
            matmul(MatMut::new(dweight, count, inputs), Store::Overwrite, 1.0, dy.t(), Mat::new(x, rows, inputs));
        }
    });
    dweight
}

fn bias_gradient(dy: &[f32], outputs: usize) -> Vec<f32> {
    let mut dbias = vec![0.0; outputs];
    for row in dy.chunks_exact(outputs) {
        dbias.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    dbias
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
        Ok((CpuStorage::F32(forward(slice(s1, l1)?, slice(s2, l2)?, None, inputs, outputs)), shape))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (outputs, inputs) = w.dims2()?;
        with_slices([x, w, dy], |[xs, ws, dys]| {
            let dx = tensor(input_gradient(dys, ws, inputs, outputs), x.shape())?;
            let dw = tensor(weight_gradient(xs, dys, inputs, outputs), w.shape())?;
            Ok((Some(dx), Some(dw)))
        })
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
        let y = forward(slice(s1, l1)?, slice(s2, l2)?, Some(slice(s3, l3)?), inputs, outputs);
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (outputs, inputs) = w.dims2()?;
        with_slices([x, w, dy], |[xs, ws, dys]| {
            let dx = tensor(input_gradient(dys, ws, inputs, outputs), x.shape())?;
            let dw = tensor(weight_gradient(xs, dys, inputs, outputs), w.shape())?;
            let db = tensor(bias_gradient(dys, outputs), b.shape())?;
            Ok((Some(dx), Some(dw), Some(db)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_forms_agree, wave};
    use super::*;

    #[test]
    fn fused_and_composed_agree_in_values_and_gradients() {
        // More rows and outputs than one block, neither a multiple of it.
        let (x, w, b) = (wave(&[150, 24], 0.3), wave(&[131, 24], 0.7), wave(&[131], 1.1));
        assert_forms_agree(&[&x, &w, &b], |kernels, args| linear(kernels, &args[0], &args[1], Some(&args[2])));
        assert_forms_agree(&[&x, &w], |kernels, args| linear(kernels, &args[0], &args[1], None));
    }
}
