//! The catalogs of a run, as the learner has them: it owns the plan of which batch is made with which.
//!
//! ```text
//! operator --ChangeCatalog--> open the folder -> ask the batcher for a place in the plan -> write the plan down -> answer
//! ```
//!
//! The batcher gives the place, because it alone knows which batches nobody can have been asked for; it holds everything up
//! while the plan is written down, so a change that was answered is part of the run whatever dies next. The coordinator hears
//! of it with the next report, checkpoints carry it.

use crate::batcher::{BatcherHandle, Stopped};
use riser_core::{
    catalog::{
        change::ChangeExtent,
        plan::{CatalogPlan, Era, PlanError},
    },
    digest::Digest,
    prefix_tree::PrefixTree,
};
use riser_proto::offload::offload;
use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};
use tokio::sync::{Mutex, watch};

/// Why a folder or a plan was not to be had, in its own words.
pub type CatalogError = Box<dyn std::error::Error + Send + Sync>;

/// A catalog that may take over.
#[derive(Debug, Clone)]
pub struct OpenedCatalog {
    /// The items.
    pub tree: Arc<PrefixTree>,
    /// How much it changes of the run's data.
    pub extent: ChangeExtent,
}

/// Where catalogs come from that take over during the run, and where it is written down which one is whose turn.
pub trait CatalogSource: fmt::Debug + Send + Sync + 'static {
    /// Opens the catalog of a data folder. Called on a thread that may wait.
    ///
    /// # Errors
    /// Whatever keeps it from taking over.
    fn open(&self, folder: &Path) -> Result<OpenedCatalog, CatalogError>;

    /// Writes `plan` down, so that a learner that is started again goes on with it; what only batches before `next` need will not
    /// be asked for again. Called on a thread that may wait.
    ///
    /// # Errors
    /// If it is not certain that it will be found again; the change is not made then.
    fn keep(&self, plan: &CatalogPlan, next: u64) -> Result<(), CatalogError>;
}

/// Why the catalog is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// This learner has no way to.
    #[error("the catalog of this run cannot be changed")]
    Fixed,
    /// The folder is not to be had.
    #[error("{folder}: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// What is wrong with it.
        source: CatalogError,
    },
    /// There is no place for it in the plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan cannot be written down.
    #[error("the plan of catalogs cannot be written down: {0}")]
    Unkept(#[source] CatalogError),
    /// The role is ending.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a plan that was written down cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// A catalog that the next batches need cannot be opened.
    #[error("catalog {} from batch {} cannot be opened at {}: {source}", era.catalog.short(), era.first_batch,
        folder(era))]
    Open {
        /// Where it belongs.
        era: Era,
        /// What is wrong with it.
        source: CatalogError,
    },
    /// The folder has another catalog by now.
    #[error("{} has catalog {}, the run goes on with catalog {} from batch {}", folder(era), got.short(),
        era.catalog.short(), era.first_batch)]
    Other {
        /// Where it belongs.
        era: Era,
        /// What is there.
        got: Digest,
    },
}

fn folder(era: &Era) -> String {
    era.folder.as_ref().map_or_else(|| "the run's own data".to_owned(), |folder| folder.display().to_string())
}

/// Every catalog that groups may be sampled from, by digest.
pub(crate) type Trees = Arc<BTreeMap<Digest, Arc<PrefixTree>>>;

/// What the gate knows: read by everyone who checks a group, written by [`Changes`].
pub(crate) type TreesWatch = watch::Receiver<Trees>;

/// The catalogs that a learner goes on with, and the changes that are part of its run.
pub(crate) type Resumed = (Trees, Vec<(Era, ChangeExtent)>);

/// The run's own catalog `first`, and those of `plan` that batches from `batch` on need.
pub(crate) fn resume(
    plan: &CatalogPlan,
    batch: u64,
    first: Arc<PrefixTree>,
    source: Option<&Arc<dyn CatalogSource>>,
) -> Result<Resumed, ResumeError> {
    let own = first.digest();
    let (mut trees, mut changes) = (BTreeMap::from([(own, first)]), vec![]);
    for era in plan.eras_from(batch) {
        let failed = |source| ResumeError::Open { era: era.clone(), source };
        if era.catalog == own {
            continue;
        }
        let Some(folder) = &era.folder else { return Err(ResumeError::Other { era: era.clone(), got: own }) };
        let source = source.ok_or_else(|| failed("this learner cannot change its catalog".into()))?;
        let OpenedCatalog { tree, extent } = source.open(folder).map_err(failed)?;
        if tree.digest() != era.catalog {
            return Err(ResumeError::Other { era: era.clone(), got: tree.digest() });
        }
        trees.insert(era.catalog, tree);
        changes.push((era.clone(), extent));
    }
    Ok((Arc::new(trees), changes))
}

/// Makes changes, one at a time.
#[derive(Debug)]
pub(crate) struct Changes {
    source: Option<Arc<dyn CatalogSource>>,
    batches: BatcherHandle,
    trees: Mutex<watch::Sender<Trees>>,
}

impl Changes {
    pub(crate) fn new(
        source: Option<Arc<dyn CatalogSource>>,
        batches: BatcherHandle,
        trees: Trees,
    ) -> (Self, TreesWatch) {
        let (sender, watched) = watch::channel(trees);
        (Self { source, batches, trees: Mutex::new(sender) }, watched)
    }

    /// Goes on with the catalog of `folder` from batch `first` on, or from the first that is possible.
    pub(crate) async fn change(&self, folder: &Path, first: Option<u64>) -> Result<(Era, ChangeExtent), ChangeError> {
        let trees = self.trees.lock().await;
        let source = self.source.clone().ok_or(ChangeError::Fixed)?;
        let failed = |source| ChangeError::Folder { folder: folder.display().to_string(), source };
        let (opener, path) = (source.clone(), folder.to_owned());
        let opened = offload(move || opener.open(&path)).await.map_err(|error| failed(error.into()))?;
        let OpenedCatalog { tree, extent } = opened.map_err(failed)?;
        let catalog = tree.digest();
        // The gate must know the catalog before anyone can be asked to sample from it.
        trees.send_modify(|trees| drop(Arc::make_mut(trees).insert(catalog, tree)));
        let era = self.batches.change(catalog, folder.to_owned(), first, extent, source).await;
        let (plan, taken) = (self.batches.catalogs().borrow().clone(), *self.batches.taken().borrow());
        let is_needed = |catalog: &Digest| {
            *catalog == plan.eras()[0].catalog || plan.eras_from(taken).iter().any(|era| era.catalog == *catalog)
        };
        trees.send_modify(|trees| Arc::make_mut(trees).retain(|catalog, _| is_needed(catalog)));
        let era = era??;
        tracing::info!(catalog = catalog.short(), batch = era.first_batch, ?extent, "the catalog changes");
        Ok((era, extent))
    }
}
