//! The operations that the model's definition is written in, whoever carries them out: a [`Tape`](crate::tape::Tape) for
//! training on the CPU, a [`Pass`](crate::inference) for asking there, or candle's tensors ([`Tensors`]) elsewhere.

use crate::{
    cache::Cache,
    kernels::{
        Kernels,
        attention::{Heads, Visibility, attention},
        linear::linear,
        rms_norm::rms_norm,
        rope::{Rotation, rope},
        swiglu::swiglu,
    },
};
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// A parameter.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    /// Its values.
    pub(crate) tensor: Tensor,
    /// Its place among all parameters, in name order.
    pub(crate) index: usize,
}

/// Carries out the model's operations; see the kernels for their formulas and shapes.
pub(crate) trait Operations {
    /// Rows of numbers, `[rows, width]`.
    type Value: Clone;

    /// The table's rows of `tokens`.
    fn embed(&mut self, table: &Weight, tokens: &[u32]) -> Result<Self::Value>;

    /// Some rows of `x`, each at most once.
    fn select(&mut self, x: &Self::Value, rows: &[u32]) -> Result<Self::Value>;

    /// See [`crate::kernels::rms_norm`].
    fn rms_norm(&mut self, x: &Self::Value, weight: &Weight, eps: f64) -> Result<Self::Value>;

    /// `x W^T + b`.
    fn linear(&mut self, x: &Self::Value, weight: &Weight, bias: Option<&Weight>) -> Result<Self::Value>;

    /// `residual + x W^T`.
    fn linear_onto(&mut self, residual: &Self::Value, x: &Self::Value, weight: &Weight) -> Result<Self::Value>;

    /// See [`crate::kernels::rope`]; nothing else may read `x`.
    fn rope(&mut self, x: Self::Value, rotation: &Rotation) -> Result<Self::Value>;

    /// Keys and values of the rows before and of these rows, for rows that may see both.
    fn with_earlier(&mut self, layer: usize, k: Self::Value, v: Self::Value) -> Result<(Self::Value, Self::Value)>;

    /// See [`crate::kernels::attention`].
    fn attention(
        &mut self,
        q: &Self::Value,
        k: &Self::Value,
        v: &Self::Value,
        heads: Heads,
        visible: &Arc<Visibility>,
    ) -> Result<Self::Value>;

    /// See [`crate::kernels::swiglu`].
    fn swiglu(&mut self, gate: &Self::Value, up: &Self::Value) -> Result<Self::Value>;

    /// Says that the forward pass reads `x`, which is cheap to compute again, no more.
    fn forget(&mut self, x: Self::Value);

    /// Says that the forward pass reads `x` no more.
    fn done(&mut self, _x: Self::Value) {}
}

/// candle's tensors, with the rows computed before if there are any.
pub(crate) struct Tensors<'c> {
    pub(crate) kernels: Kernels,
    pub(crate) cache: Option<&'c mut Cache>,
}

impl Operations for Tensors<'_> {
    type Value = Tensor;

    fn embed(&mut self, table: &Weight, tokens: &[u32]) -> Result<Tensor> {
        table.tensor.index_select(&Tensor::new(tokens, table.tensor.device())?, 0)
    }

    fn select(&mut self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        x.index_select(&Tensor::new(rows, x.device())?, 0)
    }

    fn rms_norm(&mut self, x: &Tensor, weight: &Weight, eps: f64) -> Result<Tensor> {
        rms_norm(self.kernels, x, &weight.tensor, eps)
    }

    fn linear(&mut self, x: &Tensor, weight: &Weight, bias: Option<&Weight>) -> Result<Tensor> {
        linear(self.kernels, x, &weight.tensor, bias.map(|bias| &bias.tensor))
    }

    fn linear_onto(&mut self, residual: &Tensor, x: &Tensor, weight: &Weight) -> Result<Tensor> {
        residual + self.linear(x, weight, None)?
    }

    fn rope(&mut self, x: Tensor, rotation: &Rotation) -> Result<Tensor> {
        rope(self.kernels, &x, rotation)
    }

    fn with_earlier(&mut self, layer: usize, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
        match &mut self.cache {
            Some(cache) => cache.append(layer, &k, &v),
            None => Ok((k, v)),
        }
    }

    fn attention(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: Heads,
        visible: &Arc<Visibility>,
    ) -> Result<Tensor> {
        attention(self.kernels, q, k, v, heads, visible)
    }

    fn swiglu(&mut self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        swiglu(self.kernels, gate, up)
    }

    fn forget(&mut self, _: Tensor) {}
}
