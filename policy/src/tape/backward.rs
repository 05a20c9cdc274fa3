//! The tape in reverse.

use super::{Id, Step, Sums, Tape, buffers::Buffer};
use crate::kernels::{
    attention::{self, InputGradients},
    linear,
    matrix::Store,
    rms_norm,
    rope::Turn,
    storage::with_slices,
    swiglu,
};
use crate::operations::Weight;
use candle_core::Result;

impl Tape {
    /// Zeros that [`backward`](Self::backward) takes as the gradient of a value, once they were filled.
    pub(crate) fn gradient_of(&mut self, id: Id) -> Buffer {
        self.buffers.zeros(self.len(id))
    }

    /// Adds the gradients of all parameters to `sums`, from the gradient of the value `last`. The values are lost.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub(crate) fn backward(&mut self, last: Id, gradient: Buffer, sums: &mut Sums) -> Result<()> {
        self.gradients.resize_with(self.values.len(), || None);
        self.gradients[last.0] = Some(gradient);
        for id in (0..self.steps.len()).rev() {
            // Nothing depends on this value.
            let Some(dy) = self.gradients[id].take() else {
                continue;
            };
            let step = std::mem::replace(&mut self.steps[id], Step::Done);
            // No step reads its own result.
            let value = std::mem::take(&mut self.values[id]);
            self.buffers.give_back(value);
            self.step_back(Id(id), step, dy, sums)?;
        }
        Ok(())
    }

    fn step_back(&mut self, id: Id, step: Step, dy: Buffer, sums: &mut Sums) -> Result<()> {
        match step {
            Step::Done => unreachable!("a step is passed once"),
            #[cfg(test)]
            Step::Leaf => {
                self.gradients[id.0] = Some(dy);
                return Ok(());
            }
            Step::Embed { table, tokens } => {
                let (sum, width) = (sums.term(table.index), self.width(id));
                for (dy, token) in dy.chunks_exact(width).zip(tokens) {
                    let sum = &mut sum[token as usize * width..][..width];
                    sum.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
                }
            }
            Step::Select { x, rows } => {
                let width = self.width(x);
                let mut dx = self.term(x);
                for (dy, row) in dy.chunks_exact(width).zip(rows) {
                    let dx = &mut dx[row as usize * width..][..width];
                    dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
                }
                self.gradients[x.0] = Some(dx);
            }
            Step::RmsNorm { x, weight, eps } => {
                let mut dx = self.term(x);
                with_slices([&weight.tensor], |[values]| {
                    rms_norm::backward(&self.values[x.0], values, eps, &dy, &mut dx, sums.term(weight.index));
                    Ok(())
                })?;
                self.gradients[x.0] = Some(dx);
            }
            Step::Linear { x, weight, bias } => {
                if let Some(bias) = bias {
                    linear::bias_gradient(&dy, sums.term(bias.index));
                }
                self.linear_back(x, &weight, &dy, sums)?;
            }
            Step::LinearOnto { residual, x, weight } => {
                self.linear_back(x, &weight, &dy, sums)?;
                self.hand_on(residual, dy);
                return Ok(());
            }
            Step::Rope { x, rotation } => {
                let (mut dx, width) = (dy, self.width(id));
                rotation.rotate(&mut dx, width, Turn::Back);
                self.hand_on(x, dx);
                return Ok(());
            }
            Step::Attention { q, k, v, heads, visible } => {
                let [mut dq, mut dk, mut dv] = [q, k, v].map(|id| self.term(id));
                let [q_slice, k_slice, v_slice] = [q, k, v].map(|id| &*self.values[id.0]);
                let inputs = attention::Inputs { q: q_slice, k: k_slice, v: v_slice, heads };
                attention::gradients(&inputs, &dy, &visible, InputGradients { q: &mut dq, k: &mut dk, v: &mut dv });
                for (id, gradient) in [(q, dq), (k, dk), (v, dv)] {
                    self.gradients[id.0] = Some(gradient);
                }
            }
            Step::SwiGlu { gate, up } => {
                // Nothing before this step reads its inputs, so their gradients take their place.
                debug_assert!([gate, up].iter().all(|id| self.gradients[id.0].is_none()), "one step reads each input");
                let [mut dgate, mut dup] = [gate, up].map(|id| std::mem::take(&mut self.values[id.0]));
                swiglu::backward(&mut dgate, &mut dup, &dy);
                (self.gradients[gate.0], self.gradients[up.0]) = (Some(dgate), Some(dup));
            }
        }
        self.buffers.give_back(dy);
        Ok(())
    }

    /// The gradient of a value from outside.
    #[cfg(test)]
    pub(crate) fn leaf_gradient(&self, id: Id) -> Option<&[f32]> {
        self.gradients[id.0].as_deref()
    }

    /// Gradients of a product with a weight.
    fn linear_back(&mut self, x: Id, weight: &Weight, dy: &[f32], sums: &mut Sums) -> Result<()> {
        self.compute_again(x)?;
        let inputs = self.width(x);
        let (sum, into) = sums.product(weight.index);
        linear::weight_gradient(&self.values[x.0], dy, inputs, sum, into);
        let (mut dx, into) = match self.gradients[x.0].take() {
            Some(dx) => (dx, Store::Accumulate),
            None => (self.buffers.take(self.len(x)), Store::Overwrite),
        };
        with_slices([&weight.tensor], |[weight]| {
            linear::input_gradient(dy, weight, inputs, &mut dx, into);
            Ok(())
        })?;
        self.gradients[x.0] = Some(dx);
        Ok(())
    }

    /// Computes a value again that was forgotten.
    fn compute_again(&mut self, id: Id) -> Result<()> {
        if self.values[id.0].len() < self.len(id) {
            let step = std::mem::replace(&mut self.steps[id.0], Step::Done);
            self.values[id.0] = self.compute(&step)?;
            self.steps[id.0] = step;
        }
        Ok(())
    }

    /// Makes `gradient` a term of the gradient of a value.
    fn hand_on(&mut self, id: Id, gradient: Buffer) {
        match &mut self.gradients[id.0] {
            Some(sum) => {
                sum.iter_mut().zip(&*gradient).for_each(|(sum, term)| *sum += term);
                self.buffers.give_back(gradient);
            }
            nothing => *nothing = Some(gradient),
        }
    }

    /// The gradient of a value so far, or zeros.
    fn term(&mut self, id: Id) -> Buffer {
        let len = self.len(id);
        self.gradients[id.0].take().unwrap_or_else(|| self.buffers.zeros(len))
    }
}
