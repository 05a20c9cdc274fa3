//! Making deltas.

use super::{Coding, DeltaError, Packing, PolicyDelta, TensorDelta, layout, packing::pack, sparse};
use crate::snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype};
use bytes::Bytes;

/// Writes down what changed from `base` to `next`: as `next` knows it ([`PolicySnapshot::with_changes`]), or else by
/// comparison; the bytes are the same.
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
    let noticed = next.changes_since(base.identity());
    let mut changed = vec![];
    for (place, (base, next)) in (0..).zip(base.tensors().iter().zip(next.tensors())) {
        if !is_same_kind(base, next) {
            return Err(differ(format!("tensor {place}, `{}` and `{}`,", base.name(), next.name())));
        }
        if base.digest() != next.digest() {
            let noticed = noticed.map(|changes| changes.of_tensor(place as usize));
            changed.push(tensor_delta(place, base, next, noticed, packing));
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

fn tensor_delta(
    place: u32,
    base: &SnapshotTensor,
    next: &SnapshotTensor,
    noticed: Option<&[u64]>,
    packing: Packing,
) -> TensorDelta {
    let counts = match noticed {
        Some(words) => sparse::counted(words),
        None => changes(base, next),
    };
    let (raw, coding) = match next.dtype() {
        TensorDtype::F32 => raw::<4>(base.bytes(), next.bytes(), noticed, &counts),
        TensorDtype::Bf16 => raw::<2>(base.bytes(), next.bytes(), noticed, &counts),
    };
    let raw_bytes = raw.len() as u64;
    let (payload, is_packed) = pack(raw, packing);
    TensorDelta { place, coding, is_packed, raw_bytes, digest: next.digest(), payload }
}

/// The smaller of the two codings.
fn raw<const N: usize>(base: &Bytes, next: &Bytes, noticed: Option<&[u64]>, counts: &[u32]) -> (Bytes, Coding) {
    if sparse::encoded_bytes::<N>(counts) >= next.len() as u64 {
        return (next.clone(), Coding::Full);
    }
    let raw = match noticed {
        Some(words) => sparse::encode_noticed::<N>(next, words, counts),
        None => sparse::encode::<N>(base, next, counts),
    };
    (raw.into(), Coding::Sparse)
}
