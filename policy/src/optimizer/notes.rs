//! What updates notice of the policy as it is served, so that publishing needs no second look at every weight.

use crate::{kernels::adamw::Noted, parameters::Parameters};
use bytes::Bytes;
use riser_core::{
    ids::PolicyVersion,
    snapshot::{Changes, PolicyIdentity, PolicySnapshot, SnapshotError, SnapshotTensor, TensorDtype},
};

/// Notes of the updates since a policy was served.
#[derive(Debug)]
pub(crate) struct Notes {
    dtype: TensorDtype,
    base: PolicyIdentity,
    updates: u64,
    /// By place of the parameter in name order: what the last update changed, and the served values if they are bf16.
    of_parameter: Vec<(Vec<u64>, Vec<u8>)>,
}

impl Notes {
    /// No update yet since `base` was served.
    pub(crate) fn since(base: &PolicySnapshot, dtype: TensorDtype) -> Self {
        Self { dtype, base: base.identity(), updates: 0, of_parameter: vec![] }
    }

    /// An update of parameters of these sizes begins.
    pub(crate) fn begin(&mut self, parameters: &Parameters) {
        self.updates += 1;
        // The values of an update before, if nobody has taken them, are written over.
        if self.of_parameter.is_empty() {
            let halves = if self.dtype == TensorDtype::Bf16 { 2 } else { 0 };
            let sizes = parameters.vars().values().map(|var| var.elem_count());
            self.of_parameter = sizes.map(|size| (vec![0; size.div_ceil(64)], vec![0; halves * size])).collect();
        }
    }

    pub(super) fn of_parameter(&mut self, place: usize) -> Noted<'_> {
        let (changed, halves) = &mut self.of_parameter[place];
        Noted { changed, halves }
    }

    /// The policy as it is served in `dtype`, from these notes where they say it; `policy` is the present one in f32.
    pub(crate) fn serve(self, policy: &PolicySnapshot, dtype: TensorDtype) -> Result<PolicySnapshot, SnapshotError> {
        if self.updates == 0 || self.dtype != dtype {
            return policy.served_as(dtype);
        }
        let (changed, halves): (Vec<_>, Vec<_>) = self.of_parameter.into_iter().unzip();
        let served = match dtype {
            TensorDtype::F32 => policy.clone(),
            TensorDtype::Bf16 => of_halves(policy.version(), policy.tensors(), halves)?,
        };
        // Of several updates the last one alone says nothing of the way from the base.
        Ok(if self.updates == 1 { served.with_changes(Changes::new(self.base, changed)) } else { served })
    }
}

fn of_halves(
    version: PolicyVersion,
    like: &[SnapshotTensor],
    halves: Vec<Vec<u8>>,
) -> Result<PolicySnapshot, SnapshotError> {
    let tensor = |(like, halves): (&SnapshotTensor, Vec<u8>)| {
        SnapshotTensor::new(like.name(), like.shape().to_vec(), TensorDtype::Bf16, Bytes::from(halves))
    };
    PolicySnapshot::new(version, like.iter().zip(halves).map(tensor).collect::<Result<_, _>>()?)
}
