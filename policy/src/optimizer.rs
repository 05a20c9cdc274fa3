//! AdamW with decoupled weight decay, over the parameters in name order.
//!
//! ```text
//! m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
//! w = w (1 - lr decay) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)        (Loshchilov and Hutter 2019; as PyTorch)
//! ```

use crate::{
    checkpoint::{CheckpointError, read_tensors, tensor_bytes},
    kernels::{
        Kernels, adamw, lanes,
        matrix::Store,
        storage::{with_slice_mut, with_slices},
    },
    parameters::Parameters,
    tape::Sums,
};
use candle_core::{DType, Device, Result, Tensor, backprop::GradStore};
use notes::Notes;
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::Path,
    sync::Arc,
};

pub(crate) mod notes;

/// Constants of the update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Decay rates of the two moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, applied to every parameter as PyTorch does by default.
    pub weight_decay: f64,
    /// Largest global gradient norm; longer gradients are scaled down to it. `None` leaves them alone.
    pub clip: Option<f64>,
}

impl Default for AdamWSettings {
    /// Those of PyTorch's `AdamW`, with gradients no longer than 1.
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01, clip: Some(1.0) }
    }
}

/// Sum of gradients over forests, by parameter name.
#[derive(Debug, Default)]
pub struct Gradients {
    of_parameter: BTreeMap<String, Tensor>,
    /// Whether anything was added; else there is only memory to be used again.
    is_begun: bool,
}

impl Gradients {
    /// The gradients of one backward pass.
    ///
    /// # Errors
    /// Names a parameter that received no gradient: a silent break in the graph must not look like training.
    pub fn of(parameters: &Parameters, grads: &GradStore) -> Result<Self> {
        let of_parameter = |(name, var): (&String, &candle_core::Var)| match grads.get(var) {
            Some(grad) => Ok((name.clone(), grad.clone())),
            None => candle_core::bail!("parameter `{name}` received no gradient"),
        };
        let of_parameter = parameters.vars().iter().map(of_parameter).collect::<Result<_>>()?;
        Ok(Self { of_parameter, is_begun: true })
    }

    /// Adds the gradients that were summed side by side, in memory that is used again.
    ///
    /// # Errors
    /// Names a parameter that received no gradient.
    pub(crate) fn add_sums(&mut self, parameters: &Parameters, sums: &[Sums]) -> Result<()> {
        let into = if std::mem::replace(&mut self.is_begun, true) { Store::Accumulate } else { Store::Overwrite };
        for (index, (name, var)) in parameters.vars().iter().enumerate() {
            if !Sums::have(sums, index) {
                candle_core::bail!("parameter `{name}` received no gradient");
            }
            let sum = match self.of_parameter.entry(name.clone()) {
                Entry::Occupied(present) => present.into_mut(),
                Entry::Vacant(place) => place.insert(Tensor::zeros(var.shape(), DType::F32, var.device())?),
            };
            with_slice_mut(sum, |sum| Sums::total(sums, index, sum, into))?;
        }
        Ok(())
    }

    /// Adds further gradients of the same parameters.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn add(&mut self, further: Self) -> Result<()> {
        if !self.is_begun {
            *self = further;
            return Ok(());
        }
        self.of_parameter.iter_mut().zip(further.of_parameter.values()).try_for_each(|((_, sum), grad)| {
            *sum = (&*sum + grad)?;
            Ok(())
        })
    }

    /// Starts again at zero.
    pub(crate) fn reset(&mut self) {
        self.is_begun = false;
    }

    /// The gradient of a parameter, if one was added.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.of_parameter.get(name).filter(|_| self.is_begun)
    }

    /// Euclidean norm over all parameters, summed in name order.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn norm(&self) -> Result<f64> {
        let squares = self.of_parameter.values().map(|grad| match grad.device() {
            Device::Cpu => with_slices([grad], |[grad]| Ok(squared_norm(grad))),
            _ => Ok(f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?)),
        });
        Ok(squares.sum::<Result<f64>>()?.sqrt())
    }
}

/// Summed over blocks of fixed size, so that it does not depend on the number of threads.
fn squared_norm(values: &[f32]) -> f64 {
    let of_blocks: Vec<f64> = values.par_chunks(1 << 14).map(|block| f64::from(lanes::dot(block, block))).collect();
    of_blocks.iter().sum()
}

/// The optimizer's state: two moments per parameter and the step count.
///
/// A clone is cheap and stays as it is: an update writes into the moments only if no clone shares them, else into copies.
#[derive(Debug, Clone)]
pub struct AdamW {
    settings: AdamWSettings,
    step: u64,
    moments: BTreeMap<String, Arc<(Tensor, Tensor)>>,
}

impl AdamW {
    /// A fresh state.
    ///
    /// # Errors
    /// Whatever candle reports.
    pub fn new(parameters: &Parameters, settings: AdamWSettings) -> Result<Self> {
        let zeros = |(name, var): (&String, &candle_core::Var)| {
            Ok((name.clone(), Arc::new((var.zeros_like()?, var.zeros_like()?))))
        };
        Ok(Self { settings, step: 0, moments: parameters.vars().iter().map(zeros).collect::<Result<_>>()? })
    }

    /// Number of updates made.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Applies one update at `learning_rate`; returns the gradient norm before clipping.
    ///
    /// # Errors
    /// If the gradient is not finite: nothing is changed then.
    pub fn update(&mut self, parameters: &Parameters, gradients: &Gradients, learning_rate: f64) -> Result<f64> {
        self.noted_update(parameters, gradients, learning_rate, None)
    }

    /// [`update`](Self::update) that notes on the CPU what became of the served values.
    pub(crate) fn noted_update(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        learning_rate: f64,
        mut notes: Option<&mut Notes>,
    ) -> Result<f64> {
        let norm = gradients.norm()?;
        if !norm.is_finite() {
            candle_core::bail!(
                "the gradient norm is {norm} at optimizer step {}: training has diverged",
                self.step + 1
            );
        }
        self.step += 1;
        // As torch.nn.utils.clip_grad_norm_.
        let scale = self.settings.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
        let (b1, b2) = self.settings.betas;
        let correction = |beta: f64| 1.0 - beta.powf(self.step as f64);
        let rule = adamw::Rule {
            scale: scale as f32,
            betas: (b1 as f32, b2 as f32),
            rate: (learning_rate / correction(b1)) as f32,
            root_correction: correction(b2) as f32,
            eps: self.settings.eps as f32,
            kept: (1.0 - learning_rate * self.settings.weight_decay) as f32,
        };
        for (place, (name, var)) in parameters.vars().iter().enumerate() {
            let moments = self.moments.get_mut(name).expect("moments were made for every parameter");
            let Some(grad) = gradients.get(name) else {
                candle_core::bail!("parameter `{name}` has no gradient");
            };
            let weight = var.as_tensor().detach();
            match Kernels::for_device(parameters.device()) {
                Kernels::Fused => {
                    if Arc::get_mut(moments).is_none() {
                        *moments = Arc::new((moments.0.copy()?, moments.1.copy()?));
                    }
                    let noted = notes.as_mut().map(|notes| notes.of_parameter(place));
                    adamw::update(&weight, grad, (&moments.0, &moments.1), rule, noted)?;
                }
                Kernels::Composed => {
                    let (weight, m, v) = adamw::composed(&weight, grad, &moments.0, &moments.1, rule)?;
                    var.set(&weight)?;
                    *moments = Arc::new((m, v));
                }
            }
        }
        Ok(norm)
    }

    /// The state as the bytes of a safetensors file; `path` is only named in errors.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn to_bytes(&self, path: &Path) -> std::result::Result<Vec<u8>, CheckpointError> {
        let step = Tensor::new(&[self.step as i64], &candle_core::Device::Cpu);
        let step = step.map_err(|error| CheckpointError::Content { path: path.to_owned(), what: error.to_string() })?;
        let moments = self
            .moments
            .iter()
            .flat_map(|(name, both)| [(format!("m.{name}"), both.0.clone()), (format!("v.{name}"), both.1.clone())]);
        tensor_bytes(path, moments.chain([("step".to_owned(), step)]))
    }

    /// Reads the state back; the result continues exactly where [`to_bytes`](Self::to_bytes) was taken.
    ///
    /// # Errors
    /// [`CheckpointError`] if the file does not hold a state for these parameters.
    pub fn load(
        path: &Path,
        parameters: &Parameters,
        settings: AdamWSettings,
    ) -> std::result::Result<Self, CheckpointError> {
        let content = |what: String| CheckpointError::Content { path: path.to_owned(), what };
        let mut tensors = read_tensors(path)?;
        let mut take = |name: String| tensors.remove(&name).ok_or_else(|| content(format!("`{name}` is missing")));
        let step = take("step".to_owned())?.to_vec1::<i64>().map_err(|error| content(error.to_string()))?[0];
        let mut moments = BTreeMap::new();
        for (name, var) in parameters.vars() {
            let mut moment = |kind: &str| {
                let tensor = take(format!("{kind}.{name}"))?;
                if tensor.dims() != var.dims() {
                    return Err(content(format!("`{kind}.{name}` is {:?}, expected {:?}", tensor.dims(), var.dims())));
                }
                tensor.to_device(parameters.device()).map_err(|error| content(error.to_string()))
            };
            let pair = (moment("m")?, moment("v")?);
            moments.insert(name.clone(), Arc::new(pair));
        }
        Ok(Self { settings, step: step as u64, moments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_shape;
    use riser_core::random::Seed;

    // import torch
    // w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    // opt = torch.optim.AdamW([w], lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    // for k in range(3):
    //     opt.zero_grad(); (w.pow(2).sum() * (k + 1)).backward(); torch.nn.utils.clip_grad_norm_([w], 1.0); opt.step()
    // The formula by hand in f64, since the test must not depend on the code it tests.
    #[test]
    fn three_updates_follow_the_formula_with_clipping() {
        let shape = tiny_shape();
        let parameters = Parameters::initialise(&shape, Seed(1), &Device::Cpu).unwrap();
        let settings = AdamWSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.01, clip: Some(1.0) };
        let mut optimizer = AdamW::new(&parameters, settings).unwrap();
        let read = || -> Vec<f64> {
            let flat = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            parameters.vars().values().flat_map(flat).map(f64::from).collect()
        };
        let mut w = read();
        let (mut m, mut v) = (vec![0.0; w.len()], vec![0.0; w.len()]);
        for k in 1..=3 {
            // loss = k sum w^2, gradient 2 k w
            let mut gradients = Gradients { is_begun: true, ..Gradients::default() };
            for (name, var) in parameters.vars() {
                gradients.of_parameter.insert(name.clone(), (var.as_tensor().detach() * (2.0 * f64::from(k))).unwrap());
            }
            let norm = w.iter().map(|w| (2.0 * f64::from(k) * w).powi(2)).sum::<f64>().sqrt();
            let scale = (1.0 / (norm + 1e-6)).min(1.0);
            for i in 0..w.len() {
                let g = 2.0 * f64::from(k) * w[i] * scale;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.95 * v[i] + 0.05 * g * g;
                let (mh, vh) = (m[i] / (1.0 - 0.9_f64.powi(k)), v[i] / (1.0 - 0.95_f64.powi(k)));
                w[i] = w[i] * (1.0 - 0.1 * 0.01) - 0.1 * mh / (vh.sqrt() + 1e-8);
            }
            let reported = optimizer.update(&parameters, &gradients, 0.1).unwrap();
            assert!((reported - norm).abs() < 1e-4 * norm);
        }
        let error = read().iter().zip(&w).map(|(got, expected)| (got - expected).abs()).fold(0.0, f64::max);
        assert!(error < 1e-4, "parameters differ by {error}");
    }

    /// Gradients that depend on the parameters.
    fn wave(parameters: &Parameters) -> Gradients {
        let copy = |(name, var): (&String, &candle_core::Var)| (name.clone(), var.as_tensor().copy().unwrap());
        Gradients { of_parameter: parameters.vars().iter().map(copy).collect(), is_begun: true }
    }

    #[test]
    fn a_saved_state_continues_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AdamWSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.01, clip: None };
        let run = |restart: bool| {
            let parameters = Parameters::initialise(&tiny_shape(), Seed(1), &Device::Cpu).unwrap();
            let mut optimizer = AdamW::new(&parameters, settings).unwrap();
            for step in 0..4 {
                if restart && step == 2 {
                    let path = folder.path().join("optimizer.safetensors");
                    let taken = optimizer.clone();
                    // What happens to the original afterwards does not reach the clone.
                    optimizer.update(&parameters.duplicate().unwrap(), &wave(&parameters), 0.5).unwrap();
                    std::fs::write(&path, taken.to_bytes(&path).unwrap()).unwrap();
                    optimizer = AdamW::load(&path, &parameters, settings).unwrap();
                }
                optimizer.update(&parameters, &wave(&parameters), 0.01).unwrap();
            }
            parameters.digest().unwrap()
        };
        assert_eq!(run(true), run(false));
    }
}
