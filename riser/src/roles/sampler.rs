//! The worker's side: a policy that samples groups.

use riser_core::group::RolloutGroup;
use riser_core::ids::PolicyVersion;
use riser_core::lease::SampleRequest;
use riser_core::prefix_tree::PrefixTree;
use riser_core::snapshot::{PolicyIdentity, PolicySnapshot};
use riser_policy::Device;
use riser_policy::inference::Inference;
use riser_policy::parameters::Parameters;
use riser_policy::rollout::{RolloutRequest, RolloutSettings, rollout};
use riser_policy::shape::Shape;
use riser_rollout_worker::{Sampler, SamplerError, SamplerFactory};
use std::sync::Arc;

/// Makes samplers for models of one shape.
pub struct PolicySamplers {
    /// Shape of every policy that will be loaded.
    pub shape: Shape,
    /// How groups are drawn.
    pub settings: RolloutSettings,
    /// Where models run.
    pub device: Device,
}

impl SamplerFactory for PolicySamplers {
    fn sampler(&self, tree: Arc<PrefixTree>) -> Result<Box<dyn Sampler>, SamplerError> {
        let Self { shape, settings, device } = self;
        Ok(Box::new(PolicySampler {
            tree,
            shape: shape.clone(),
            settings: *settings,
            device: device.clone(),
            loaded: None,
        }))
    }
}

/// A policy that samples; see [`PolicySamplers`].
pub struct PolicySampler {
    tree: Arc<PrefixTree>,
    shape: Shape,
    settings: RolloutSettings,
    device: Device,
    loaded: Option<(PolicyIdentity, Inference)>,
}

impl Sampler for PolicySampler {
    fn load(&mut self, snapshot: &PolicySnapshot) -> Result<(), SamplerError> {
        let inference = Parameters::from_snapshot(&self.shape, snapshot, &self.device)?.inference()?;
        self.loaded = Some((snapshot.identity(), inference));
        Ok(())
    }

    fn sample(
        &mut self,
        version: PolicyVersion,
        requests: &[SampleRequest],
    ) -> Result<Vec<RolloutGroup>, SamplerError> {
        let (policy, inference) = self.loaded.as_ref().ok_or("no policy has been loaded")?;
        if policy.version != version {
            return Err(format!("{policy} is loaded, asked for version {version}").into());
        }
        let requests: Vec<RolloutRequest> = requests
            .iter()
            .map(|request| RolloutRequest {
                id: request.id,
                row: request.row,
                prompt: request.prompt.tokens.clone(),
                target: request.prompt.target,
            })
            .collect();
        Ok(rollout(inference, &self.tree, *policy, &requests, &self.settings)?)
    }
}
