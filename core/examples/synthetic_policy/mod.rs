//! A bf16 policy whose values the measurement chooses.

use riser_core::{
    ids::PolicyVersion,
    snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype},
};

/// Elements of each tensor, as in the layers of a model 1,024 wide.
pub(crate) const TENSOR: usize = 1024 * 4096;

/// The policy of `version` with a tensor for each list of bf16 values.
pub(crate) fn policy(version: u64, tensors: &[Vec<u16>]) -> PolicySnapshot {
    let tensor = |(place, values): (usize, &Vec<u16>)| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        SnapshotTensor::new(format!("layer.{place:03}"), vec![values.len() as u64], TensorDtype::Bf16, bytes.into())
    };
    let tensors = tensors.iter().enumerate().map(tensor).collect::<Result<Vec<_>, _>>().unwrap();
    PolicySnapshot::new(PolicyVersion(version), tensors).unwrap()
}
