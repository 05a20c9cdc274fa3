//! The catalogs of a run: the one it begins with, and those that take over on the way.
//!
//! The learner says which catalog each batch is made with. What the coordinator needs of the next one, the file to hand out and
//! the prompts with their targets in it, is opened on a thread of its own when the learner first names it; until that is
//! done, batches of that catalog stay closed and all others go on. A folder that cannot be opened is tried again for as long
//! as the learner names it: a disk that is mounted late costs time and nothing else.

use crate::prompts::{PromptError, PromptSource, Prompts, SourceError};
use riser_core::{
    catalog::plan::{CatalogPlan, Era},
    digest::Digest,
    ids::GroupId,
    lease::SampleRequest,
    prefix_tree::PrefixTree,
    random::Seed,
};
use riser_proto::{catalog::CatalogFile, offload::offload};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};

/// Pause before a catalog is opened again that could not be opened.
const PAUSE: Duration = Duration::from_secs(5);

/// A catalog with the prompts that go with it.
pub struct OpenedCatalog {
    /// The items.
    pub file: CatalogFile,
    /// Rows whose targets are among them.
    pub prompts: Box<dyn PromptSource>,
}

/// Where catalogs come from that take over during the run.
pub trait CatalogSource: Send + Sync + 'static {
    /// Opens the catalog of an era. Called on a thread that may wait.
    ///
    /// # Errors
    /// Whatever the source says; it is asked again later.
    fn open(&self, era: &Era) -> Result<OpenedCatalog, SourceError>;
}

/// What the run is made of.
pub struct RunData {
    /// What it begins with.
    pub first: OpenedCatalog,
    /// Where changes of catalog come from; without it a run whose learner names one waits for ever.
    pub changes: Option<Arc<dyn CatalogSource>>,
}

impl RunData {
    /// A run that keeps the catalog it begins with.
    pub fn fixed(prompts: Box<dyn PromptSource>, tree: &PrefixTree) -> Self {
        Self { first: OpenedCatalog { file: CatalogFile::new(tree), prompts }, changes: None }
    }
}

/// What is handed out at present.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    /// The catalog of the next batch.
    pub(crate) current: Digest,
    /// Every catalog that a lease may name, by its digest.
    pub(crate) files: BTreeMap<Digest, CatalogFile>,
}

/// The catalogs that are open.
pub(crate) struct Catalogs {
    seed: Seed,
    prompts: BTreeMap<Digest, Prompts>,
    shelf: watch::Sender<Shelf>,
    source: Option<Arc<dyn CatalogSource>>,
    opening: JoinSet<(Digest, Result<OpenedCatalog, SourceError>)>,
    under_way: BTreeSet<Digest>,
}

impl Catalogs {
    pub(crate) fn new(data: RunData, seed: Seed) -> Self {
        let RunData { first: OpenedCatalog { file, prompts }, changes } = data;
        let current = file.manifest().catalog();
        let prompts = BTreeMap::from([(current, Prompts::new(prompts, seed))]);
        let shelf = watch::Sender::new(Shelf { current, files: BTreeMap::from([(current, file)]) });
        Self { seed, prompts, shelf, source: changes, opening: JoinSet::new(), under_way: BTreeSet::new() }
    }

    /// What is handed out, now and later.
    pub(crate) fn shelf(&self) -> watch::Receiver<Shelf> {
        self.shelf.subscribe()
    }

    /// Whether the run begins with the catalog that is first in `plan`.
    pub(crate) fn begins(&self, plan: &CatalogPlan) -> bool {
        self.prompts.contains_key(&plan.eras()[0].catalog)
    }

    /// Takes the plan of a learner that is at batch `batch`: opens what it names and is not here, and forgets what no batch needs
    /// any more. Returns what is here then.
    pub(crate) fn follow(&mut self, plan: &CatalogPlan, batch: u64) -> BTreeSet<Digest> {
        let current = plan.era_of(batch).catalog;
        for era in plan.eras_from(batch) {
            if self.prompts.contains_key(&era.catalog) {
                continue;
            }
            if let Some(source) = self.source.clone().filter(|_| self.under_way.insert(era.catalog)) {
                tracing::info!(catalog = era.catalog.short(), batch = era.first_batch, folder = ?era.folder, "opening a catalog");
                let era = era.clone();
                self.opening.spawn(open(source, era));
            }
        }
        // The first one is the run's own, and a learner may go back to it.
        let (first, needed) = (plan.eras()[0].catalog, plan.eras_from(batch));
        let is_needed = |catalog: &Digest| *catalog == first || needed.iter().any(|era| era.catalog == *catalog);
        self.prompts.retain(|catalog, _| is_needed(catalog));
        self.shelf.send_modify(|shelf| {
            shelf.files.retain(|catalog, _| is_needed(catalog));
            if shelf.files.contains_key(&current) {
                shelf.current = current;
            }
        });
        self.prompts.keys().copied().collect()
    }

    /// Waits for the next catalog that was being opened; the error says which one could not be, and why. For ever if none is.
    pub(crate) async fn opened(&mut self) -> Result<Digest, (Digest, String)> {
        let Some(ended) = self.opening.join_next().await else { return std::future::pending().await };
        // A thread that panics has said so; whoever is asked again may know better.
        let Ok((catalog, result)) = ended else { return std::future::pending().await };
        self.under_way.remove(&catalog);
        let OpenedCatalog { file, prompts } = result.map_err(|error| (catalog, error.to_string()))?;
        self.prompts.insert(catalog, Prompts::new(prompts, self.seed));
        self.shelf.send_modify(|shelf| drop(shelf.files.insert(catalog, file)));
        Ok(catalog)
    }

    /// What to sample for `group` from `catalog`.
    pub(crate) fn request(&mut self, catalog: Digest, group: GroupId) -> Result<SampleRequest, PromptError> {
        let prompts = self.prompts.get_mut(&catalog).expect("only batches of catalogs that are here are leased");
        prompts.request(group)
    }
}

/// Opens the catalog of an era and looks whether it is the right one; what fails takes a pause, so that it is not tried too often.
async fn open(source: Arc<dyn CatalogSource>, era: Era) -> (Digest, Result<OpenedCatalog, SourceError>) {
    let expected = era.catalog;
    let opened = offload(move || source.open(&era)).await;
    let checked = opened.map_err(SourceError::from).flatten().and_then(|opened| {
        let got = opened.file.manifest().catalog();
        let wrong = || format!("the folder has catalog {}, the learner's has {}", got.short(), expected.short());
        if got == expected { Ok(opened) } else { Err(wrong().into()) }
    });
    if checked.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    (expected, checked)
}
