//! The model's operations with their backward passes.
//!
//! Every operation exists twice. The **fused** form is hand-written for the CPU over plain slices: forward as one candle op
//! for inference, forward and backward on the tape (`crate::tape`) for training, without a materialised mask or V-wide
//! gradient buffers. The **composed** form spells the same mathematics with candle's differentiable tensor operations: it
//! runs on every device and is the oracle that the fused form is tested against, values and gradients. (candle's own fused
//! RmsNorm, softmax_last_dim, rope and sdpa silently have no backward pass, so neither form uses them; ours refuse one.)

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod gather;
pub(crate) mod lanes;
pub(crate) mod linear;
pub(crate) mod matrix;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod score;
pub(crate) mod storage;
pub(crate) mod swiglu;

/// Rows per block of work: fixed, so that results do not depend on the number of threads.
pub(crate) const BLOCK_ROWS: usize = 128;

/// Which form of the operations a model uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// Hand-written CPU operations.
    Fused,
    /// candle's differentiable tensor operations, on any device.
    Composed,
}

impl Kernels {
    /// The form that suits a device.
    pub fn for_device(device: &candle_core::Device) -> Self {
        if device.is_cpu() { Self::Fused } else { Self::Composed }
    }
}

#[cfg(test)]
pub(crate) mod testing;
