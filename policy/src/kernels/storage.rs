//! Plain slices from candle tensors and back.

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, bail};

/// The contiguous f32 content behind an op's argument.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        (CpuStorage::F32(_), None) => bail!("a fused op was given a strided tensor"),
        _ => bail!("fused ops work in f32, got {:?}", storage.dtype()),
    }
}

use candle_core::backend::BackendStorage;

/// Runs `body` on the contiguous f32 content of CPU tensors.
pub(crate) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    body: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut owned = Vec::with_capacity(N);
    for tensor in tensors {
        owned.push(tensor?);
    }
    let guards: Vec<_> = owned.iter().map(Tensor::storage_and_layout).collect();
    let mut slices: [&[f32]; N] = [&[]; N];
    for (target, (storage, layout)) in slices.iter_mut().zip(&guards) {
        *target = match &**storage {
            Storage::Cpu(storage) => slice(storage, layout)?,
            _ => bail!("fused ops run on the CPU"),
        };
    }
    body(slices)
}

/// A CPU tensor that takes over `values`.
pub(crate) fn tensor<S: Into<Shape>>(values: Vec<f32>, shape: S) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}
