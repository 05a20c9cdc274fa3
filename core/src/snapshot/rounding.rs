//! Serving a policy in another number format than it is trained in.

use super::{PolicySnapshot, SnapshotError, SnapshotTensor, TensorDtype};
use half::bf16;

impl PolicySnapshot {
    /// The policy as it is served: every tensor in `dtype`, under the same version.
    ///
    /// To bf16 each value goes to the nearest representable one, ties to the even one (IEEE 754 roundTiesToEven), so the
    /// relative change is at most 2^-9. To f32 each value keeps its value.
    ///
    /// # Errors
    /// [`SnapshotError::NotFinite`] for a value beyond the largest of bf16, 3.39e38.
    pub fn served_as(&self, dtype: TensorDtype) -> Result<Self, SnapshotError> {
        if self.tensors.iter().all(|tensor| tensor.dtype == dtype) {
            return Ok(self.clone());
        }
        let tensors = self.tensors.iter().map(|tensor| tensor.converted(dtype));
        Self::new(self.version, tensors.collect::<Result<_, _>>()?)
    }
}

impl SnapshotTensor {
    fn converted(&self, dtype: TensorDtype) -> Result<Self, SnapshotError> {
        let bytes = match (self.dtype, dtype) {
            (TensorDtype::F32, TensorDtype::Bf16) => {
                each(&self.bytes, |word| bf16::from_f32(f32::from_le_bytes(word)).to_le_bytes())
            }
            (TensorDtype::Bf16, TensorDtype::F32) => {
                each(&self.bytes, |half| bf16::from_le_bytes(half).to_f32().to_le_bytes())
            }
            (TensorDtype::F32, TensorDtype::F32) | (TensorDtype::Bf16, TensorDtype::Bf16) => return Ok(self.clone()),
        };
        Self::new(self.name.clone(), self.shape.clone(), dtype, bytes.into())
    }
}

/// Converts elements of `N` bytes to elements of `M` bytes.
fn each<const N: usize, const M: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> [u8; M]) -> Vec<u8> {
    let (elements, _) = bytes.as_chunks::<N>();
    let mut out = vec![0; M * elements.len()];
    out.as_chunks_mut::<M>().0.iter_mut().zip(elements).for_each(|(out, &element)| *out = convert(element));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PolicyVersion;

    fn policy(values: &[f32]) -> PolicySnapshot {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = SnapshotTensor::new("w", vec![values.len() as u64], TensorDtype::F32, bytes.into()).unwrap();
        PolicySnapshot::new(PolicyVersion(3), vec![tensor]).unwrap()
    }

    fn halves(policy: &PolicySnapshot) -> Vec<u16> {
        policy.tensors()[0].bytes().chunks(2).map(|half| u16::from_le_bytes([half[0], half[1]])).collect()
    }

    /// Expected values worked out by hand from the bit patterns: bf16 keeps 8 bits of significand.
    #[test]
    fn values_go_to_the_nearest_and_ties_to_the_even_one() {
        let cases = [
            (0x3f80_0000, 0x3f80), // 1 stays
            (0x3f80_7fff, 0x3f80), // just below the middle: down
            (0x3f80_8000, 0x3f80), // the middle, lower neighbour even: down
            (0x3f81_8000, 0x3f82), // the middle, upper neighbour even: up
            (0x3f80_8001, 0x3f81), // just above the middle: up
            (0x3fff_ffff, 0x4000), // carries into the exponent
            (0xbf81_8000, 0xbf82), // the sign does not matter
            (0x8000_0000, 0x8000), // -0 stays
            (0x0000_0001, 0x0000), // the smallest subnormal
            (0x7f7f_7fff, 0x7f7f), // the largest that does not overflow
        ];
        let values: Vec<f32> = cases.iter().map(|&(single, _)| f32::from_bits(single)).collect();
        let served = policy(&values).served_as(TensorDtype::Bf16).unwrap();
        assert_eq!(halves(&served), cases.map(|(_, half)| half));
        assert_eq!((served.version(), served.total_bytes()), (PolicyVersion(3), 2 * cases.len() as u64));
    }

    #[test]
    fn what_is_served_in_bf16_comes_back_unchanged_from_f32() {
        let served = policy(&[0.1, -2.7, 3e-20, 0.0]).served_as(TensorDtype::Bf16).unwrap();
        let wide = served.served_as(TensorDtype::F32).unwrap();
        assert_ne!(wide.digest(), served.digest(), "the format is part of what a policy is");
        assert_eq!(wide.served_as(TensorDtype::Bf16).unwrap(), served);
        assert_eq!(policy(&[0.1]).served_as(TensorDtype::F32).unwrap(), policy(&[0.1]));
    }

    #[test]
    fn a_value_that_bf16_cannot_hold_is_named() {
        let refused = policy(&[1.0, f32::MAX]).served_as(TensorDtype::Bf16);
        assert_eq!(refused, Err(SnapshotError::NotFinite { name: "w".into(), element: 1 }));
    }
}
