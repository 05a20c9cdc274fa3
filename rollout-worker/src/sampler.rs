//! What the worker needs from a model.

use riser_core::{
    group::RolloutGroup, ids::PolicyVersion, lease::SampleRequest, prefix_tree::PrefixTree, snapshot::PolicySnapshot,
};
use std::sync::Arc;

/// Why a sampler failed, in its own words.
pub type SamplerError = Box<dyn std::error::Error + Send + Sync>;

/// A model that samples items. Every method may take long and is called on a thread of its own, never two at a time.
pub trait Sampler: Send + 'static {
    /// Replaces the policy. Between this call and the next, [`sample`](Self::sample) uses this policy and no other.
    ///
    /// # Errors
    /// For example tensors that do not fit the model; the worker ends with it.
    fn load(&mut self, snapshot: &PolicySnapshot) -> Result<(), SamplerError>;

    /// Samples one group per request, in the order of the requests, with the policy loaded last, which is `version`.
    ///
    /// Every group names that version and the digest of what was loaded.
    ///
    /// The result must depend on the policy and the requests alone: not on earlier calls, nor on which worker it is.
    ///
    /// # Errors
    /// Whatever makes sampling impossible; the worker ends with it.
    fn sample(&mut self, version: PolicyVersion, requests: &[SampleRequest])
    -> Result<Vec<RolloutGroup>, SamplerError>;
}

/// Makes samplers for a catalog; a worker makes one each time it starts.
pub trait SamplerFactory: Send + Sync + 'static {
    /// A sampler over the items of `tree`. Called on a blocking thread.
    ///
    /// # Errors
    /// For example a tokenizer that does not fit the catalog; the worker ends with it.
    fn sampler(&self, tree: Arc<PrefixTree>) -> Result<Box<dyn Sampler>, SamplerError>;
}

impl<F> SamplerFactory for F
where
    F: Fn(Arc<PrefixTree>) -> Result<Box<dyn Sampler>, SamplerError> + Send + Sync + 'static,
{
    fn sampler(&self, tree: Arc<PrefixTree>) -> Result<Box<dyn Sampler>, SamplerError> {
        self(tree)
    }
}
