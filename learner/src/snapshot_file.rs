//! A published policy as a safetensors file.

use bytes::Bytes;
use riser_core::{
    ids::PolicyVersion,
    snapshot::{PolicySnapshot, SnapshotError, SnapshotTensor, TensorDtype},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::{Path, PathBuf};

/// Why a policy file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// The file system failed.
    #[error("policy {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a safetensors file, or not one we can write.
    #[error("policy {path}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: safetensors::SafeTensorError,
    },
    /// A number format that is never published.
    #[error("policy {path}: tensor `{name}` has type {dtype:?}, expected F32 or BF16")]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its number format.
        dtype: Dtype,
    },
    /// Tensors that are not a policy.
    #[error("policy {path}: {source}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SnapshotError,
    },
}

/// The bytes of the file; `path` is only named in errors.
///
/// # Errors
/// [`SnapshotFileError::Format`].
pub fn bytes(snapshot: &PolicySnapshot, path: &Path) -> Result<Vec<u8>, SnapshotFileError> {
    let format = |source| SnapshotFileError::Format { path: path.to_owned(), source };
    let views = snapshot.tensors().iter().map(|tensor| {
        let dtype = match tensor.dtype() {
            TensorDtype::F32 => Dtype::F32,
            TensorDtype::Bf16 => Dtype::BF16,
        };
        let shape = tensor.shape().iter().map(|&extent| extent as usize).collect();
        Ok((tensor.name(), TensorView::new(dtype, shape, tensor.bytes())?))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(format)?;
    safetensors::serialize(views, None).map_err(format)
}

/// Reads the policy of `version` from `path`.
///
/// # Errors
/// [`SnapshotFileError`].
pub fn read(version: PolicyVersion, path: &Path) -> Result<PolicySnapshot, SnapshotFileError> {
    let bytes = std::fs::read(path).map_err(|source| SnapshotFileError::Io { path: path.to_owned(), source })?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|source| SnapshotFileError::Format { path: path.to_owned(), source })?;
    let policy = |source| SnapshotFileError::Policy { path: path.to_owned(), source };
    let mut tensors = vec![];
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            Dtype::F32 => TensorDtype::F32,
            Dtype::BF16 => TensorDtype::Bf16,
            dtype => return Err(SnapshotFileError::Dtype { path: path.to_owned(), name, dtype }),
        };
        let shape = view.shape().iter().map(|&extent| extent as u64).collect();
        tensors.push(SnapshotTensor::new(name, shape, dtype, Bytes::copy_from_slice(view.data())).map_err(policy)?);
    }
    PolicySnapshot::new(version, tensors).map_err(policy)
}
