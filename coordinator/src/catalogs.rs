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
    /// The catalog that the run begins with. It stays here: a learner may go back to it.
    own: Digest,
    prompts: BTreeMap<Digest, Prompts>,
    shelf: watch::Sender<Shelf>,
    source: Option<Arc<dyn CatalogSource>>,
    opening: JoinSet<(Digest, Result<OpenedCatalog, SourceError>)>,
    under_way: BTreeSet<Digest>,
    /// Why a catalog could not be opened when it was last tried.
    failed: BTreeMap<Digest, String>,
}

impl Catalogs {
    pub(crate) fn new(data: RunData, seed: Seed) -> Self {
        let RunData { first: OpenedCatalog { file, prompts }, changes } = data;
        let current = file.manifest().catalog();
        let prompts = BTreeMap::from([(current, Prompts::new(prompts, seed))]);
        let shelf = watch::Sender::new(Shelf { current, files: BTreeMap::from([(current, file)]) });
        Self {
            seed,
            own: current,
            prompts,
            shelf,
            source: changes,
            opening: JoinSet::new(),
            under_way: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// What is handed out, now and later.
    pub(crate) fn shelf(&self) -> watch::Receiver<Shelf> {
        self.shelf.subscribe()
    }

    /// Whether the run begins with the catalog that is first in `plan`.
    pub(crate) fn begins(&self, plan: &CatalogPlan) -> bool {
        plan.eras()[0].catalog == self.own
    }

    /// Takes the plan of a learner that is at batch `batch`: opens what it names and is not here, and forgets what no batch needs
    /// any more. Returns what is here then.
    pub(crate) fn follow(&mut self, plan: &CatalogPlan, batch: u64) -> BTreeSet<Digest> {
        let current = plan.era_of(batch).catalog;
        for era in plan.eras_from(batch) {
            if !self.prompts.contains_key(&era.catalog) {
                self.begin_opening(era);
            }
        }
        let (own, needed) = (self.own, plan.eras_from(batch));
        let is_needed = |catalog: &Digest| *catalog == own || needed.iter().any(|era| era.catalog == *catalog);
        self.prompts.retain(|catalog, _| is_needed(catalog));
        self.shelf.send_modify(|shelf| {
            shelf.files.retain(|catalog, _| is_needed(catalog));
            if shelf.files.contains_key(&current) {
                shelf.current = current;
            }
        });
        self.prompts.keys().copied().collect()
    }

    fn begin_opening(&mut self, era: &Era) {
        let Some(source) = self.source.clone() else { return };
        if !self.under_way.insert(era.catalog) {
            return;
        }
        let pause = if self.failed.contains_key(&era.catalog) { PAUSE } else { Duration::ZERO };
        let era = era.clone();
        self.opening.spawn(async move {
            tokio::time::sleep(pause).await;
            (era.catalog, open(source, era).await)
        });
    }

    /// Waits until an attempt to open a catalog has ended; for ever if there is none.
    pub(crate) async fn opened(&mut self) -> Opening {
        // A thread that panicked is an error of its attempt, so every attempt has an end.
        let Some(Ok((catalog, result))) = self.opening.join_next().await else { return std::future::pending().await };
        self.under_way.remove(&catalog);
        match result {
            Ok(OpenedCatalog { file, prompts }) => {
                self.failed.remove(&catalog);
                self.prompts.insert(catalog, Prompts::new(prompts, self.seed));
                self.shelf.send_modify(|shelf| drop(shelf.files.insert(catalog, file)));
                Opening::Here(catalog)
            }
            Err(error) => {
                let reason = error.to_string();
                let before = self.failed.insert(catalog, reason.clone());
                let is_news = before.is_none_or(|before| before != reason);
                Opening::Failed { catalog, news: is_news.then_some(reason) }
            }
        }
    }

    /// What to sample for `group` from `catalog`.
    pub(crate) fn request(&mut self, catalog: Digest, group: GroupId) -> Result<SampleRequest, PromptError> {
        let prompts = self.prompts.get_mut(&catalog).expect("only batches of catalogs that are here are leased");
        prompts.request(group)
    }
}

/// The end of an attempt to open a catalog.
pub(crate) enum Opening {
    /// It can be handed out.
    Here(Digest),
    /// It is tried again after a pause; the reason, if it is another one than before.
    Failed { catalog: Digest, news: Option<String> },
}

/// Opens the catalog of an era and looks whether it is the right one.
async fn open(source: Arc<dyn CatalogSource>, era: Era) -> Result<OpenedCatalog, SourceError> {
    let expected = era.catalog;
    let opened = offload(move || source.open(&era)).await??;
    let got = opened.file.manifest().catalog();
    if got == expected {
        return Ok(opened);
    }
    Err(format!("the folder has catalog {}, the learner's has {}", got.short(), expected.short()).into())
}
