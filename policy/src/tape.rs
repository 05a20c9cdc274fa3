//! Training on the CPU: the model's operations on plain slices, written down as they are carried out and passed again in
//! reverse for the gradients.
//!
//! What candle's autograd does with fresh zeroed tensors is done here in memory that is used again ([`buffers`]), and the
//! gradients of the parameters are added by the products themselves ([`sums`]). A normalised or activated value is
//! forgotten in the forward pass and computed again in the backward pass, which is cheaper than the way to memory and back.

mod backward;
pub(crate) mod buffers;
mod sums;
mod transposed;

pub(crate) use sums::Sums;
pub(crate) use transposed::Transposed;
#[cfg(test)]
pub(crate) use transposed::transpose_blocks;

use crate::{
    kernels::{
        attention::{self, Heads, Visibility},
        gather,
        linear::{self, Start},
        matrix::Mat,
        rms_norm,
        rope::{Rotation, Turn},
        storage::with_slices,
        swiglu,
    },
    operations::{Operations, Weight},
};
use buffers::Buffers;
pub(crate) use buffers::{Buffer, Meter};
use candle_core::Result;
use std::sync::Arc;

/// A value on the tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(usize);

/// What was done.
#[derive(Debug)]
enum Step {
    /// Passed in the backward pass already.
    Done,
    /// A value from outside.
    #[cfg(test)]
    Leaf,
    Embed {
        table: Weight,
        tokens: Vec<u32>,
    },
    Select {
        x: Id,
        rows: Vec<u32>,
    },
    RmsNorm {
        x: Id,
        weight: Weight,
        eps: f32,
    },
    Linear {
        x: Id,
        weight: Weight,
        bias: Option<Weight>,
    },
    LinearOnto {
        residual: Id,
        x: Id,
        weight: Weight,
    },
    /// In the memory of `x`, which is no value any more.
    Rope {
        x: Id,
        rotation: Rotation,
    },
    Attention {
        q: Id,
        k: Id,
        v: Id,
        heads: Heads,
        visible: Arc<Visibility>,
    },
    SwiGlu {
        gate: Id,
        up: Id,
    },
}

/// One pass.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    /// Step `i` made value `i`.
    steps: Vec<Step>,
    /// Empty where a value was forgotten or is needed no more.
    values: Vec<Buffer>,
    /// Rows and width of each value.
    shapes: Vec<(usize, usize)>,
    /// Filled from the end in the backward pass.
    gradients: Vec<Option<Buffer>>,
    buffers: Buffers,
    /// Where the forward pass finds the weights that it multiplies with; those that are not there it transposes on the way.
    transposed: Arc<Transposed>,
}

impl Tape {
    /// A tape whose memory is counted by `meter`.
    pub(crate) fn metered(meter: Arc<Meter>) -> Self {
        Self { buffers: Buffers::metered(meter), ..Self::default() }
    }

    /// From now on holds at most so many numbers, if no pass needs more.
    pub(crate) fn set_limit(&mut self, numbers: usize) {
        self.buffers.set_limit(numbers);
    }

    /// The numbers of a value, row by row.
    pub(crate) fn value(&self, id: Id) -> &[f32] {
        &self.values[id.0]
    }

    /// Numbers in each row of a value.
    pub(crate) fn width(&self, id: Id) -> usize {
        self.shapes[id.0].1
    }

    /// A value from outside, `[rows, width]`.
    #[cfg(test)]
    pub(crate) fn leaf(&mut self, numbers: &[f32], width: usize) -> Id {
        let mut y = self.buffers.take(numbers.len());
        y.copy_from_slice(numbers);
        self.push(Step::Leaf, y, width)
    }

    /// Memory for `len` arbitrary numbers.
    pub(crate) fn lend(&mut self, len: usize) -> Buffer {
        self.buffers.take(len)
    }

    /// Takes memory back that was lent.
    pub(crate) fn take_back(&mut self, buffer: Buffer) {
        self.buffers.give_back(buffer);
    }

    /// Forgets the pass and its weights, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.transposed = Arc::default();
        self.steps.clear();
        self.shapes.clear();
        let gradients = self.gradients.drain(..).flatten();
        self.values.drain(..).chain(gradients).for_each(|buffer| self.buffers.give_back(buffer));
    }

    fn push(&mut self, step: Step, y: Buffer, width: usize) -> Id {
        self.shapes.push((y.len() / width, width));
        self.steps.push(step);
        self.values.push(y);
        Id(self.values.len() - 1)
    }

    fn rows(&self, id: Id) -> usize {
        self.shapes[id.0].0
    }

    /// Numbers of a value, whether it is in memory or not.
    fn len(&self, id: Id) -> usize {
        self.rows(id) * self.width(id)
    }

    /// The blocks of the transposed head, if the tape has them.
    pub(crate) fn transposed_head(&self) -> Option<&[f32]> {
        self.transposed.head()
    }

    /// Uses these transposed weights from now on.
    pub(crate) fn with_transposed(self, transposed: Arc<Transposed>) -> Self {
        Self { transposed, ..self }
    }

    fn multiply(&self, x: Id, weight: &Weight, start: Start<'_>, y: &mut [f32]) -> Result<()> {
        let ((outputs, inputs), x) = (weight.tensor.dims2()?, &self.values[x.0]);
        match self.transposed.get(weight) {
            Some(weight_io) => linear::forward(x, Mat::new(weight_io, inputs, outputs), start, y),
            None => with_slices([&weight.tensor], |[weight]| {
                linear::forward(x, Mat::new(weight, outputs, inputs).t(), start, y);
                Ok(())
            })?,
        }
        Ok(())
    }

    /// Computes a normalised or activated value.
    fn compute(&mut self, step: &Step) -> Result<Buffer> {
        match step {
            Step::RmsNorm { x, weight, eps } => {
                let x = &self.values[x.0];
                let mut y = self.buffers.take(x.len());
                with_slices([&weight.tensor], |[weight]| {
                    rms_norm::forward(x, weight, *eps, &mut y);
                    Ok(())
                })?;
                Ok(y)
            }
            Step::SwiGlu { gate, up } => {
                let (gate, up) = (&self.values[gate.0], &self.values[up.0]);
                let mut y = self.buffers.take(gate.len());
                swiglu::forward(gate, up, &mut y);
                Ok(y)
            }
            _ => unreachable!("only normalised and activated values are computed again"),
        }
    }
}

impl Operations for Tape {
    type Value = Id;

    fn embed(&mut self, table: &Weight, tokens: &[u32]) -> Result<Id> {
        let width = table.tensor.dim(1)?;
        let mut y = self.buffers.take(tokens.len() * width);
        gather::embed(&table.tensor, tokens, &mut y)?;
        Ok(self.push(Step::Embed { table: table.clone(), tokens: tokens.to_vec() }, y, width))
    }

    fn select(&mut self, x: &Id, rows: &[u32]) -> Result<Id> {
        let width = self.width(*x);
        let mut y = self.buffers.take(rows.len() * width);
        gather::gather(&self.values[x.0], rows, width, &mut y);
        Ok(self.push(Step::Select { x: *x, rows: rows.to_vec() }, y, width))
    }

    fn rms_norm(&mut self, x: &Id, weight: &Weight, eps: f64) -> Result<Id> {
        let step = Step::RmsNorm { x: *x, weight: weight.clone(), eps: eps as f32 };
        let y = self.compute(&step)?;
        Ok(self.push(step, y, self.width(*x)))
    }

    fn linear(&mut self, x: &Id, weight: &Weight, bias: Option<&Weight>) -> Result<Id> {
        let outputs = weight.tensor.dim(0)?;
        let mut y = self.buffers.take(self.rows(*x) * outputs);
        match bias {
            Some(bias) => with_slices([&bias.tensor], |[bias]| self.multiply(*x, weight, Start::Bias(bias), &mut y)),
            None => self.multiply(*x, weight, Start::Nothing, &mut y),
        }?;
        let step = Step::Linear { x: *x, weight: weight.clone(), bias: bias.cloned() };
        Ok(self.push(step, y, outputs))
    }

    fn linear_onto(&mut self, residual: &Id, x: &Id, weight: &Weight) -> Result<Id> {
        let outputs = weight.tensor.dim(0)?;
        let mut y = self.buffers.take(self.values[residual.0].len());
        y.copy_from_slice(&self.values[residual.0]);
        self.multiply(*x, weight, Start::Present, &mut y)?;
        Ok(self.push(Step::LinearOnto { residual: *residual, x: *x, weight: weight.clone() }, y, outputs))
    }

    fn rope(&mut self, x: Id, rotation: &Rotation) -> Result<Id> {
        let (mut y, width) = (std::mem::take(&mut self.values[x.0]), self.width(x));
        rotation.rotate(&mut y, width, Turn::Forward);
        Ok(self.push(Step::Rope { x, rotation: rotation.clone() }, y, width))
    }

    fn with_earlier(&mut self, _: usize, k: Id, v: Id) -> Result<(Id, Id)> {
        Ok((k, v))
    }

    fn attention(&mut self, q: &Id, k: &Id, v: &Id, heads: Heads, visible: &Arc<Visibility>) -> Result<Id> {
        let mut y = self.buffers.take(self.values[q.0].len());
        let [q_slice, k_slice, v_slice] = [q, k, v].map(|id| &*self.values[id.0]);
        attention::attend(
            &attention::Inputs { q: q_slice, k: k_slice, v: v_slice, heads },
            visible,
            attention::BLOCK,
            &mut y,
        );
        let step = Step::Attention { q: *q, k: *k, v: *v, heads, visible: visible.clone() };
        Ok(self.push(step, y, self.width(*q)))
    }

    fn swiglu(&mut self, gate: &Id, up: &Id) -> Result<Id> {
        let step = Step::SwiGlu { gate: *gate, up: *up };
        let y = self.compute(&step)?;
        Ok(self.push(step, y, self.width(*gate)))
    }

    fn forget(&mut self, x: Id) {
        debug_assert!(matches!(self.steps[x.0], Step::RmsNorm { .. } | Step::SwiGlu { .. }), "can be computed again");
        let buffer = std::mem::take(&mut self.values[x.0]);
        self.buffers.give_back(buffer);
    }
}
