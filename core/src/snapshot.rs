//! A published policy: all tensors of one version, as bytes with digests.
//!
//! A snapshot is checked once, when it is made: sizes match shapes, names are unique and sorted, every float is finite,
//! every tensor has its digest. Its own digest covers names, types, shapes and tensor digests but not the version, so it
//! says what the policy *is*; two runs end with equal policies exactly if the digests are equal.

use crate::{digest::Digest, ids::PolicyVersion};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

mod changes;
mod rounding;

pub use changes::Changes;

/// Number format of a tensor, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorDtype {
    /// IEEE single precision.
    F32,
    /// The upper half of an IEEE single.
    Bf16,
}

impl TensorDtype {
    /// Bytes of one element.
    pub fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The name it has in safetensors files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
        }
    }
}

/// One tensor of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotTensor {
    name: String,
    shape: Vec<u64>,
    dtype: TensorDtype,
    bytes: Bytes,
    digest: Digest,
}

impl SnapshotTensor {
    /// Takes the elements of a tensor in row-major order.
    ///
    /// # Errors
    /// [`SnapshotError::Size`] if `bytes` does not fit `shape`, [`SnapshotError::NotFinite`] for a NaN or an infinity.
    pub fn new(
        name: impl Into<String>,
        shape: Vec<u64>,
        dtype: TensorDtype,
        bytes: Bytes,
    ) -> Result<Self, SnapshotError> {
        let name = name.into();
        let expected = size_of(&shape, dtype);
        if expected != Some(bytes.len() as u64) {
            return Err(SnapshotError::Size { name, shape, dtype, got: bytes.len() });
        }
        if let Some(element) = first_not_finite(dtype, &bytes) {
            return Err(SnapshotError::NotFinite { name, element });
        }
        let digest = Digest::of(&bytes);
        Ok(Self { name, shape, dtype, bytes, digest })
    }

    /// Name in the checkpoint, for example `model.norm.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Extent of each dimension.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Number format.
    pub fn dtype(&self) -> TensorDtype {
        self.dtype
    }

    /// The elements, row-major, little-endian.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Digest of the elements.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Bytes of a tensor; `None` if they overflow.
pub fn size_of(shape: &[u64], dtype: TensorDtype) -> Option<u64> {
    shape.iter().try_fold(dtype.element_bytes() as u64, |size, &extent| size.checked_mul(extent))
}

/// Position of the first element whose exponent is all ones: an infinity or a NaN.
fn first_not_finite(dtype: TensorDtype, bytes: &[u8]) -> Option<usize> {
    match dtype {
        TensorDtype::F32 => first_where(bytes, |word: [u8; 4]| u32::from_le_bytes(word) & 0x7f80_0000 == 0x7f80_0000),
        TensorDtype::Bf16 => first_where(bytes, |half: [u8; 2]| u16::from_le_bytes(half) & 0x7f80 == 0x7f80),
    }
}

/// Position of the first element that `is_bad`. Looks at whole blocks without a branch in them, so that the search runs at
/// the speed of memory.
fn first_where<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    const BLOCK: usize = 4096;
    let (elements, _) = bytes.as_chunks::<N>();
    let bad = |block: &&[[u8; N]]| block.iter().fold(false, |bad, &element| bad | is_bad(element));
    let block = elements.chunks(BLOCK).position(|block| bad(&block))?;
    let within = elements[block * BLOCK..].iter().position(|&element| is_bad(element))?;
    Some(block * BLOCK + within)
}

/// Which policy a snapshot is: when it was made and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyIdentity {
    /// Number of optimizer steps behind it.
    pub version: PolicyVersion,
    /// Digest of its contents.
    pub digest: Digest,
}

impl fmt::Display for PolicyIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "version {} ({})", self.version, self.digest.short())
    }
}

/// All tensors of one policy version.
#[derive(Debug, Clone)]
pub struct PolicySnapshot {
    version: PolicyVersion,
    tensors: Vec<SnapshotTensor>,
    digest: Digest,
    /// How it came about is no part of what it is.
    changes: Option<Arc<Changes>>,
}

impl PartialEq for PolicySnapshot {
    fn eq(&self, other: &Self) -> bool {
        (self.version, self.digest, &self.tensors) == (other.version, other.digest, &other.tensors)
    }
}

impl Eq for PolicySnapshot {}

impl PolicySnapshot {
    /// Collects the tensors of `version`; they are sorted by name.
    ///
    /// # Errors
    /// [`SnapshotError::Empty`] without tensors, [`SnapshotError::Duplicate`] if two share a name.
    pub fn new(version: PolicyVersion, mut tensors: Vec<SnapshotTensor>) -> Result<Self, SnapshotError> {
        if tensors.is_empty() {
            return Err(SnapshotError::Empty);
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(SnapshotError::Duplicate { name: pair[0].name.clone() });
        }
        let digest = digest_of(
            tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.dtype, tensor.shape.as_slice(), tensor.digest)),
        );
        Ok(Self { version, tensors, digest, changes: None })
    }

    /// Number of optimizer steps behind this policy.
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// The tensors, ascending by name.
    pub fn tensors(&self) -> &[SnapshotTensor] {
        &self.tensors
    }

    /// What this policy is: names, types, shapes and contents, whatever its version.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Version and digest.
    pub fn identity(&self) -> PolicyIdentity {
        PolicyIdentity { version: self.version, digest: self.digest }
    }

    /// Bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum()
    }
}

/// Digest of a list of tensors that are known by their digests, in the order given.
fn digest_of<'a>(tensors: impl Iterator<Item = (&'a str, TensorDtype, &'a [u64], Digest)>) -> Digest {
    let parts: Vec<(&str, Vec<u8>)> = tensors
        .map(|(name, dtype, shape, digest)| {
            let mut part = dtype.name().as_bytes().to_vec();
            part.push(0);
            shape.iter().for_each(|extent| part.extend_from_slice(&extent.to_le_bytes()));
            part.extend_from_slice(digest.as_bytes());
            (name, part)
        })
        .collect();
    Digest::of_parts(parts.iter().map(|(name, part)| (*name, part.as_slice())))
}

/// Why tensors are not a policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// No tensors at all.
    #[error("a policy needs at least one tensor")]
    Empty,
    /// Two tensors with one name.
    #[error("tensor `{name}` appears twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Bytes and shape disagree.
    #[error("tensor `{name}` of shape {shape:?} and type {} has {got} bytes", dtype.name())]
    Size {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its number format.
        dtype: TensorDtype,
        /// The bytes that came.
        got: usize,
    },
    /// A NaN or an infinity.
    #[error("tensor `{name}` is not finite at element {element}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// Row-major position of the element.
        element: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, values: &[f32]) -> SnapshotTensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        SnapshotTensor::new(name, vec![values.len() as u64], TensorDtype::F32, bytes.into()).unwrap()
    }

    #[test]
    fn the_digest_says_what_the_policy_is_not_when_it_was_made_or_in_which_order() {
        let (a, b) = (tensor("a", &[1.0, 2.0]), tensor("b", &[3.0]));
        let one = PolicySnapshot::new(PolicyVersion(1), vec![a.clone(), b.clone()]).unwrap();
        let two = PolicySnapshot::new(PolicyVersion(2), vec![b, a.clone()]).unwrap();
        assert_eq!(one.digest(), two.digest());
        assert_eq!(two.tensors()[0].name(), "a");
        let other = PolicySnapshot::new(PolicyVersion(1), vec![a, tensor("b", &[3.5])]).unwrap();
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn a_shape_that_overflows_or_disagrees_with_the_bytes_is_refused() {
        for shape in [vec![3], vec![u64::MAX, u64::MAX], vec![]] {
            let refused = SnapshotTensor::new("w", shape.clone(), TensorDtype::F32, Bytes::from_static(&[0; 8]));
            assert_eq!(refused, Err(SnapshotError::Size { name: "w".into(), shape, dtype: TensorDtype::F32, got: 8 }));
        }
    }

    #[test]
    fn a_nan_is_refused_in_either_format() {
        let single = [1f32, f32::INFINITY].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let half = [0x3f80u16, 0x3f80, 0x7fc0].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        for (dtype, bytes, element) in [(TensorDtype::F32, single, 1), (TensorDtype::Bf16, half, 2)] {
            let shape = vec![element as u64 + 1];
            let refused = SnapshotTensor::new("w", shape, dtype, bytes.into());
            assert_eq!(refused, Err(SnapshotError::NotFinite { name: "w".into(), element }));
        }
    }

    #[test]
    fn a_nan_behind_many_blocks_is_found_at_its_place() {
        for element in [0, 4095, 4096, 9_000] {
            let mut values = vec![1f32; 9_001];
            values[element] = f32::NEG_INFINITY;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let refused = SnapshotTensor::new("w", vec![9_001], TensorDtype::F32, bytes.into());
            assert_eq!(refused, Err(SnapshotError::NotFinite { name: "w".into(), element }));
        }
    }

    #[test]
    fn a_name_may_appear_once() {
        let twice = PolicySnapshot::new(PolicyVersion(0), vec![tensor("w", &[1.0]), tensor("w", &[2.0])]);
        assert_eq!(twice, Err(SnapshotError::Duplicate { name: "w".into() }));
    }
}
