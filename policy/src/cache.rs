//! Keys and values of rows that were computed before, so that a descent only computes its new rows.

use crate::shape::Shape;
use candle_core::{DType, Device, Result, Tensor};

/// The key-value cache of one batch of descents. Rows are numbered in the order they were appended, over all trees.
pub(crate) struct Cache {
    /// Keys and values of each layer, `[capacity, K * D]`.
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
}

impl Cache {
    /// An empty cache with room for `capacity` rows; it grows when needed.
    pub(crate) fn new(shape: &Shape, capacity: usize, device: &Device) -> Result<Self> {
        let width = shape.num_key_value_heads * shape.head_dim();
        let empty = || Tensor::zeros((capacity.max(1), width), DType::F32, device);
        let layers = (0..shape.num_hidden_layers).map(|_| Ok((empty()?, empty()?))).collect::<Result<_>>()?;
        Ok(Self { layers, len: 0 })
    }

    /// Number of rows held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends the keys and values of new rows in one layer; returns those of all rows so far.
    pub(crate) fn append(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let rows = k.dim(0)?;
        let (keys, values) = &mut self.layers[layer];
        let needed = self.len + rows;
        if needed > keys.dim(0)? {
            let grown = |old: &Tensor| {
                let (capacity, width) = old.dims2()?;
                let more = Tensor::zeros((needed.max(2 * capacity) - capacity, width), old.dtype(), old.device())?;
                Tensor::cat(&[old, &more], 0)
            };
            (*keys, *values) = (grown(keys)?, grown(values)?);
        }
        keys.slice_set(&k.contiguous()?, 0, self.len)?;
        values.slice_set(&v.contiguous()?, 0, self.len)?;
        let all = (keys.narrow(0, 0, needed)?, values.narrow(0, 0, needed)?);
        if layer + 1 == self.layers.len() {
            self.len = needed;
        }
        Ok(all)
    }
}
