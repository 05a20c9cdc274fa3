//! Applying deltas.

use super::{Coding, DeltaError, PolicyDelta, TensorDelta, packing::unpack, sparse};
use crate::snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype};
use bytes::Bytes;

/// The policy that `delta` leads to from `base`, which stays as it is. Tensors without changes share their memory with
/// `base`.
///
/// # Errors
/// [`DeltaError`] if the delta starts elsewhere or does not lead to exactly the policy it announces.
pub fn apply(base: &PolicySnapshot, delta: &PolicyDelta) -> Result<PolicySnapshot, DeltaError> {
    if base.identity() != delta.base {
        return Err(DeltaError::Base { got: base.identity(), expected: delta.base });
    }
    let num_tensors = base.tensors().len();
    if num_tensors != delta.num_tensors as usize {
        return Err(DeltaError::NumTensors { got: delta.num_tensors, expected: num_tensors });
    }
    let mut tensors = base.tensors().to_vec();
    for change in &delta.changed {
        // Within range: decoding has checked every place against `num_tensors`.
        let tensor = &mut tensors[change.place as usize];
        *tensor = changed(tensor, change)?;
    }
    let next = PolicySnapshot::new(delta.next.version, tensors)?;
    match next.identity() == delta.next {
        true => Ok(next),
        false => Err(DeltaError::PolicyMismatch { got: next.identity(), announced: delta.next }),
    }
}

fn changed(base: &SnapshotTensor, change: &TensorDelta) -> Result<SnapshotTensor, DeltaError> {
    let name = base.name();
    let raw = raw(base, change)?;
    let bytes = match change.coding {
        Coding::Full => {
            let (got, expected) = (raw.len() as u64, base.bytes().len() as u64);
            if got != expected {
                return Err(DeltaError::PayloadSize { tensor: name.to_owned(), got, expected });
            }
            raw
        }
        Coding::Sparse => {
            let mut data = base.bytes().to_vec();
            match base.dtype() {
                TensorDtype::F32 => sparse::overwrite::<4>(name, &mut data, &raw)?,
                TensorDtype::Bf16 => sparse::overwrite::<2>(name, &mut data, &raw)?,
            }
            data.into()
        }
    };
    let tensor = SnapshotTensor::new(name, base.shape().to_vec(), base.dtype(), bytes)?;
    match tensor.digest() == change.digest {
        true => Ok(tensor),
        false => {
            let (tensor, got) = (name.to_owned(), tensor.digest());
            Err(DeltaError::TensorMismatch { tensor, got, announced: change.digest })
        }
    }
}

/// The payload, unpacked. No coding is larger than the tensor, so memory is bounded by what is in hand already.
fn raw(base: &SnapshotTensor, change: &TensorDelta) -> Result<Bytes, DeltaError> {
    let limit = base.bytes().len() as u64;
    if change.raw_bytes > limit {
        let tensor = base.name().to_owned();
        return Err(DeltaError::PayloadSize { tensor, got: change.raw_bytes, expected: limit });
    }
    if !change.is_packed {
        return Ok(change.payload.clone());
    }
    let unpacked = unpack(&change.payload, change.raw_bytes as usize);
    unpacked.map(Bytes::from).map_err(|reason| {
        let (tensor, raw_bytes) = (base.name().to_owned(), change.raw_bytes);
        DeltaError::Unpack { tensor, raw_bytes, reason }
    })
}
