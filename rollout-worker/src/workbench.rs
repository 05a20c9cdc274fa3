//! The sampler with the catalog it samples from.
//!
//! A lease names its catalog. One that is not in hand is fetched and a sampler is made for it; the catalog before is kept beside
//! it for the leases that still name it, so that a change costs one transfer however the leases of both are mixed.

use crate::{
    WorkerConfig, WorkerError,
    catalog::{self, Fetched, Sources},
    sampler::{Sampler, SamplerFactory},
};
use riser_core::{digest::Digest, prefix_tree::PrefixTree, snapshot::PolicyIdentity};
use riser_proto::{offload::offload, transport::Channel};
use std::sync::Arc;

/// Catalogs in hand at one time: one and the next.
const IN_HAND: usize = 2;

/// Owns the sampler and the catalogs.
pub(crate) struct Workbench {
    config: WorkerConfig,
    coordinator: Channel,
    sources: Sources,
    samplers: Arc<dyn SamplerFactory>,
    /// The catalogs in hand; the sampler samples from the last one.
    trees: Vec<Arc<PrefixTree>>,
    /// At home between calls, away on a blocking thread during one.
    sampler: Option<Box<dyn Sampler>>,
    /// What the sampler samples with.
    loaded: Option<PolicyIdentity>,
    /// Bytes of catalogs that came from the coordinator.
    pub(crate) fetched: u64,
}

impl Workbench {
    /// A workbench with the catalog that the run has now.
    pub(crate) async fn set_up(
        config: WorkerConfig,
        coordinator: Channel,
        sources: Sources,
        samplers: Arc<dyn SamplerFactory>,
    ) -> Result<Self, WorkerError> {
        let Fetched { tree, bytes } = catalog::fetch(&config, coordinator.clone(), sources.clone(), None).await?;
        let mut workbench =
            Self { config, coordinator, sources, samplers, trees: vec![], sampler: None, loaded: None, fetched: bytes };
        workbench.prepare(Arc::new(tree)).await?;
        Ok(workbench)
    }

    /// Sees to it that the sampler samples from `catalog`. Dropping the wait loses what was not fetched completely.
    pub(crate) async fn lay_out(&mut self, catalog: Digest) -> Result<(), WorkerError> {
        if self.trees.last().is_some_and(|tree| tree.digest() == catalog) {
            return Ok(());
        }
        let known = self.trees.iter().find(|tree| tree.digest() == catalog).cloned();
        let tree = match known {
            Some(tree) => tree,
            None => {
                let (coordinator, sources) = (self.coordinator.clone(), self.sources.clone());
                let Fetched { tree, bytes } = catalog::fetch(&self.config, coordinator, sources, Some(catalog)).await?;
                self.fetched += bytes;
                Arc::new(tree)
            }
        };
        self.prepare(tree).await
    }

    async fn prepare(&mut self, tree: Arc<PrefixTree>) -> Result<(), WorkerError> {
        let (samplers, items) = (self.samplers.clone(), tree.clone());
        let made = offload(move || samplers.sampler(items)).await;
        self.sampler = Some(made.map_err(WorkerError::panicked)?.map_err(WorkerError::Factory)?);
        self.loaded = None;
        self.trees.retain(|known| known.digest() != tree.digest());
        self.trees.push(tree);
        self.trees.drain(..self.trees.len().saturating_sub(IN_HAND));
        Ok(())
    }

    /// Lends the sampler to a blocking thread for `work`, which is told whether `policy` is loaded; afterwards it is if `work`
    /// succeeded.
    pub(crate) async fn with_sampler<T: Send + 'static>(
        &mut self,
        policy: PolicyIdentity,
        work: impl FnOnce(&mut dyn Sampler, bool) -> Result<T, WorkerError> + Send + 'static,
    ) -> Result<T, WorkerError> {
        let mut sampler = self.sampler.take().expect("the sampler comes home unless it panicked, which ends the loop");
        let is_loaded = self.loaded == Some(policy);
        // Until the load is known to have succeeded, nothing is known about the sampler.
        self.loaded = None;
        let lent = offload(move || {
            let result = work(sampler.as_mut(), is_loaded);
            (sampler, result)
        });
        let (sampler, result) = lent.await.map_err(WorkerError::panicked)?;
        self.sampler = Some(sampler);
        let result = result?;
        self.loaded = Some(policy);
        Ok(result)
    }
}
