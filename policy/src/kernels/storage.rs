//! Plain slices from candle tensors and back.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use std::cell::Cell;

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

/// Runs `body` on the contiguous f32 content of a CPU tensor, which it may change; whatever shares its memory sees that.
pub(crate) fn with_slice_mut<R>(tensor: &Tensor, body: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let call = Call { body: Cell::new(Some(body)), result: Cell::new(None) };
    tensor.inplace_op1(&call)?;
    Ok(call.result.into_inner().expect("the op has run"))
}

/// A call inside an in-place op, which candle hands out the memory to.
struct Call<F, R> {
    body: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<F: FnOnce(&mut [f32]) -> R, R> InplaceOp1 for Call<F, R> {
    fn name(&self) -> &'static str {
        "in place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("in-place ops work on contiguous f32 tensors");
        };
        let body = self.body.take().expect("an op runs once");
        self.result.set(Some(body(&mut values[start..end])));
        Ok(())
    }
}
