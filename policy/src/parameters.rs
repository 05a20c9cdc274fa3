//! The trainable parameters: f32 variables by Hugging Face name, always visited in name order.

use crate::{
    inference::Inference,
    kernels::{Kernels, storage::with_slices},
    model::Model,
    shape::Shape,
};
use candle_core::{DType, Device, Result, Tensor, Var};
use rand_distr::{Distribution, Normal};
use rayon::prelude::*;
use riser_core::{
    digest::Digest,
    ids::PolicyVersion,
    random::Seed,
    snapshot::{PolicySnapshot, SnapshotError, SnapshotTensor, TensorDtype},
};
use std::collections::BTreeMap;

/// All parameters of a model.
#[derive(Debug)]
pub struct Parameters {
    shape: Shape,
    device: Device,
    vars: BTreeMap<String, Var>,
}

impl Parameters {
    /// Fresh parameters as transformers initialises Qwen2: weights from a normal distribution, biases 0, norms 1.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn initialise(shape: &Shape, seed: Seed, device: &Device) -> Result<Self> {
        let normal = Normal::new(0.0, shape.initializer_range as f32)
            .map_err(|error| candle_core::Error::msg(format!("initializer_range: {error}")))?;
        let tensors = shape.parameters().into_iter().enumerate().map(|(index, (name, dims))| {
            let len = dims.iter().product();
            let values = if name.ends_with("bias") {
                vec![0.0; len]
            } else if name.contains("norm") {
                vec![1.0; len]
            } else {
                normal.sample_iter(seed.stream("initialise", &[index as u64])).take(len).collect()
            };
            Ok((name, Tensor::from_vec(values, dims, device)?))
        });
        Self::from_tensors(shape, tensors.collect::<Result<_>>()?, device)
    }

    /// Takes named tensors, which must be exactly those of `shape`, and converts them to f32 on `device`.
    ///
    /// # Errors
    /// Names the parameter that is missing, extra or of another shape.
    pub fn from_tensors(shape: &Shape, mut tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<Self> {
        let mut vars = BTreeMap::new();
        for (name, dims) in shape.parameters() {
            let Some(tensor) = tensors.remove(&name) else {
                candle_core::bail!("parameter `{name}` is missing");
            };
            if tensor.dims() != dims {
                candle_core::bail!("parameter `{name}` is {:?}, expected {dims:?}", tensor.dims());
            }
            let tensor = tensor.to_dtype(DType::F32)?.to_device(device)?.contiguous()?;
            vars.insert(name, Var::from_tensor(&tensor)?);
        }
        // Some exporters write the tied head out a second time.
        tensors.remove("lm_head.weight").filter(|_| shape.tie_word_embeddings);
        if let Some(name) = tensors.keys().next() {
            candle_core::bail!("parameter `{name}` does not belong to this model");
        }
        Ok(Self { shape: shape.clone(), device: device.clone(), vars })
    }

    /// The model's sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Where the parameters live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The variables, ascending by name.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// Number of scalars.
    pub fn num_scalars(&self) -> usize {
        self.vars.values().map(|var| var.elem_count()).sum()
    }

    /// A model whose passes record candle's graph, by the operations that have gradients in candle: the oracle of the tape,
    /// and the way to train on other devices.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn trainable_model(&self) -> Result<Model> {
        Ok(self.model(|var| var.as_tensor().clone())?.with_kernels(Kernels::Composed))
    }

    /// A model over the same memory that records nothing; it sees later updates.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn inference_model(&self) -> Result<Model> {
        self.model(|var| var.as_tensor().detach())
    }

    /// [`inference_model`](Self::inference_model), prepared for being asked; it does not see later changes.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn inference(&self) -> Result<Inference> {
        Inference::new(self.inference_model()?)
    }

    fn model(&self, view: impl Fn(&Var) -> Tensor) -> Result<Model> {
        let weights = self.vars.iter().map(|(name, var)| (name.clone(), view(var))).collect();
        Model::new(&self.shape, Kernels::for_device(&self.device), &weights)
    }

    /// An independent copy, for example the frozen reference policy.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn duplicate(&self) -> Result<Self> {
        let tensors = self.vars.iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?)));
        Self::from_tensors(&self.shape, tensors.collect::<Result<_>>()?, &self.device)
    }

    /// The parameters as they are published.
    ///
    /// # Errors
    /// [`SnapshotError::NotFinite`] if training has diverged.
    pub fn snapshot(&self, version: PolicyVersion) -> std::result::Result<PolicySnapshot, SnapshotError> {
        let tensors = self.vars.par_iter().map(|(name, var)| {
            let host = var.to_device(&Device::Cpu);
            let bytes = host.and_then(|host| with_slices([&host], |[values]| Ok(little_endian(values))));
            let shape = var.dims().iter().map(|&extent| extent as u64).collect();
            SnapshotTensor::new(name.clone(), shape, TensorDtype::F32, bytes.expect("variables are f32").into())
        });
        PolicySnapshot::new(version, tensors.collect::<std::result::Result<_, _>>()?)
    }

    /// What the policy is; equal digests mean equal parameters, bit for bit.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn digest(&self) -> std::result::Result<Digest, SnapshotError> {
        Ok(self.snapshot(PolicyVersion(0))?.digest())
    }

    /// Parameters from a published policy.
    ///
    /// # Errors
    /// Names the tensor that does not fit `shape`.
    pub fn from_snapshot(shape: &Shape, snapshot: &PolicySnapshot, device: &Device) -> Result<Self> {
        let tensors = snapshot.tensors().iter().map(|tensor| {
            let dims: Vec<usize> = tensor.shape().iter().map(|&extent| extent as usize).collect();
            let dtype = match tensor.dtype() {
                TensorDtype::F32 => DType::F32,
                TensorDtype::Bf16 => DType::BF16,
            };
            Ok((tensor.name().to_owned(), Tensor::from_raw_buffer(tensor.bytes(), dtype, &dims, &Device::Cpu)?))
        });
        Self::from_tensors(shape, tensors.collect::<Result<_>>()?, device)
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * values.len()];
    bytes.as_chunks_mut::<4>().0.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_shape;

    #[test]
    fn the_same_seed_gives_the_same_policy_and_a_snapshot_restores_it() {
        let shape = tiny_shape();
        let make = |seed| Parameters::initialise(&shape, Seed(seed), &Device::Cpu).unwrap();
        let policy = make(1);
        assert_eq!(policy.digest().unwrap(), make(1).digest().unwrap());
        assert_ne!(policy.digest().unwrap(), make(2).digest().unwrap());
        let snapshot = policy.snapshot(PolicyVersion(7)).unwrap();
        let restored = Parameters::from_snapshot(&shape, &snapshot, &Device::Cpu).unwrap();
        assert_eq!(restored.digest().unwrap(), snapshot.digest());
    }

    #[test]
    fn a_missing_extra_or_misshapen_parameter_is_named() {
        let shape = tiny_shape();
        let all = || -> BTreeMap<String, Tensor> {
            let dims = |dims: Vec<usize>| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
            shape.parameters().into_iter().map(|(name, shape)| (name, dims(shape))).collect()
        };
        let error = |tensors| Parameters::from_tensors(&shape, tensors, &Device::Cpu).unwrap_err().to_string();
        let mut missing = all();
        missing.remove("model.norm.weight");
        assert!(error(missing).contains("`model.norm.weight` is missing"));
        let mut extra = all();
        extra.insert("model.extra".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
        assert!(error(extra).contains("`model.extra` does not belong"));
        let mut misshapen = all();
        misshapen.insert("model.norm.weight".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
        assert!(error(misshapen).contains("`model.norm.weight` is [1], expected"));
    }
}
