//! Making deltas.

use super::{Coding, DeltaError, Packing, PolicyDelta, TensorDelta, layout, packing::pack, sparse};
use crate::snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype};
use bytes::Bytes;

/// Writes down what changed from `base` to `next`.
///
/// # Errors
/// [`DeltaError::Structure`] if the policies differ in more than values; then only the whole policy can be sent.
pub fn encode(base: &PolicySnapshot, next: &PolicySnapshot, packing: Packing) -> Result<PolicyDelta, DeltaError> {
    let differ = |what: String| DeltaError::Structure { what, base: base.identity(), next: next.identity() };
    let (num_base, num_next) = (base.tensors().len(), next.tensors().len());
    let num_tensors = u32::try_from(num_base).map_err(|_| differ(format!("{num_base} tensors")))?;
    if num_base != num_next {
        return Err(differ(format!("{num_base} and {num_next} tensors")));
    }
    let mut changed = vec![];
    for (place, (base, next)) in (0..).zip(base.tensors().iter().zip(next.tensors())) {
        if !is_same_kind(base, next) {
            return Err(differ(format!("tensor {place}, `{}` and `{}`,", base.name(), next.name())));
        }
        if base.digest() != next.digest() {
            changed.push(tensor_delta(place, base, next, packing));
        }
    }
    Ok(layout::seal(base.identity(), next.identity(), num_tensors, changed))
}

/// Number of elements of `next` that differ from `base`, in the tensors that both have.
pub fn changed_elements(base: &PolicySnapshot, next: &PolicySnapshot) -> u64 {
    let pairs = base.tensors().iter().zip(next.tensors()).filter(|(base, next)| is_same_kind(base, next));
    pairs.flat_map(|(base, next)| changes(base, next)).map(u64::from).sum()
}

fn is_same_kind(base: &SnapshotTensor, next: &SnapshotTensor) -> bool {
    (base.name(), base.dtype(), base.shape()) == (next.name(), next.dtype(), next.shape())
}

fn changes(base: &SnapshotTensor, next: &SnapshotTensor) -> Vec<u32> {
    match next.dtype() {
        TensorDtype::F32 => sparse::changes::<4>(base.bytes(), next.bytes()),
        TensorDtype::Bf16 => sparse::changes::<2>(base.bytes(), next.bytes()),
    }
}

fn tensor_delta(place: u32, base: &SnapshotTensor, next: &SnapshotTensor, packing: Packing) -> TensorDelta {
    let changes = changes(base, next);
    let (old, new) = (base.bytes(), next.bytes());
    let sparse_bytes = match next.dtype() {
        TensorDtype::F32 => sparse::encoded_bytes::<4>(&changes),
        TensorDtype::Bf16 => sparse::encoded_bytes::<2>(&changes),
    };
    let (coding, raw) = match next.dtype() {
        _ if sparse_bytes >= new.len() as u64 => (Coding::Full, new.clone()),
        TensorDtype::F32 => (Coding::Sparse, Bytes::from(sparse::encode::<4>(old, new, &changes))),
        TensorDtype::Bf16 => (Coding::Sparse, Bytes::from(sparse::encode::<2>(old, new, &changes))),
    };
    let raw_bytes = raw.len() as u64;
    let (payload, is_packed) = pack(raw, packing);
    TensorDelta { place, coding, is_packed, raw_bytes, digest: next.digest(), payload }
}
