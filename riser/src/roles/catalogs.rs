//! The catalogs that take over during a run, each from a prepared data folder, as coordinator and learner need them.

use super::prompts::RlPrompts;
use riser_coordinator::catalogs::OpenedCatalog as ToHandOut;
use riser_coordinator::prompts::SourceError;
use riser_core::atomic_file;
use riser_core::catalog::change::CatalogChange;
use riser_core::catalog::plan::{CatalogPlan, Era};
use riser_core::data_folder::DataFolder;
use riser_core::digest::Digest;
use riser_learner::catalogs::{CatalogError, OpenedCatalog as ToTrainOn};
use riser_proto::catalog::CatalogFile;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name of the file in a run folder that says which batch is made with which catalog, once there has been a change.
pub const PLAN_FILE: &str = "catalogs.json";

/// Another catalog for the histories of a run.
pub struct NextCatalog {
    /// The folder that it comes from.
    pub data: DataFolder,
    /// What it means for the run's own data.
    pub change: CatalogChange,
}

/// Opens catalogs for a run and keeps those that are in use.
pub struct RunCatalogs {
    own: Arc<DataFolder>,
    max_prompt_tokens: usize,
    /// Where the plan is written down; `None` for a role that only follows it.
    plan: Option<PathBuf>,
    open: Mutex<Open>,
}

/// What is open, and the plan that it is open for.
#[derive(Default)]
struct Open {
    catalogs: BTreeMap<Digest, Arc<NextCatalog>>,
    /// The eras that are not over.
    eras: Vec<Era>,
}

/// Why a plan cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// It is there and cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no plan.
    #[error("{} is damaged: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

impl Open {
    /// Forgets what no era needs.
    fn keep_needed(&mut self) {
        self.catalogs.retain(|catalog, _| self.eras.iter().any(|era| era.catalog == *catalog));
    }
}

impl RunCatalogs {
    /// The catalogs of a run on `own`, whose plan is written into `folder` if this role owns it.
    pub fn new(own: Arc<DataFolder>, max_prompt_tokens: usize, folder: Option<&Path>) -> Self {
        let plan = folder.map(|folder| folder.join(PLAN_FILE));
        Self { own, max_prompt_tokens, plan, open: Mutex::default() }
    }

    /// The plan to go on with from a checkpoint of batch `batch` that was made with `used`.
    ///
    /// # Errors
    /// [`PlanFileError`] if there is a plan that was written down, and it cannot be read.
    pub fn plan_from(&self, used: CatalogPlan, batch: u64) -> Result<CatalogPlan, PlanFileError> {
        let kept = self.kept()?;
        let plan = CatalogPlan::resumed(used, kept.clone(), batch);
        if kept.is_some_and(|kept| kept != plan) {
            tracing::warn!(
                batch,
                "changes of catalog that were written down are not those of the checkpoint and do not count"
            );
        }
        self.opened().eras = plan.eras().to_vec();
        Ok(plan)
    }

    /// The plan that was written down.
    fn kept(&self) -> Result<Option<CatalogPlan>, PlanFileError> {
        let Some(path) = self.plan.clone() else { return Ok(None) };
        match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(plan) => Ok(Some(plan)),
                Err(source) => Err(PlanFileError::Damaged { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PlanFileError::Unreadable { path, source }),
        }
    }

    /// A catalog that was opened and is in use; `None` for the run's own and for one that is not.
    pub fn in_use(&self, catalog: Digest) -> Option<Arc<NextCatalog>> {
        self.opened().catalogs.get(&catalog).cloned()
    }

    fn read(&self, folder: &Path) -> Result<Arc<NextCatalog>, CatalogError> {
        let data = DataFolder::open(folder)?;
        let change = CatalogChange::between(&self.own, &data)?;
        Ok(Arc::new(NextCatalog { data, change }))
    }

    fn opened(&self) -> MutexGuard<'_, Open> {
        // Whatever a panic leaves of it, what is needed and missing is an error by name.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RunCatalogs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RunCatalogs").field("own", &self.own.path()).field("plan", &self.plan).finish()
    }
}

impl riser_learner::catalogs::CatalogSource for RunCatalogs {
    fn open(&self, folder: &Path) -> Result<ToTrainOn, CatalogError> {
        let next = self.read(folder)?;
        let (tree, extent) = (Arc::new(next.data.tree().clone()), next.change.extent());
        let mut open = self.opened();
        // One that was opened before and got no place in the plan is not wanted.
        open.keep_needed();
        open.catalogs.entry(tree.digest()).or_insert(next);
        Ok(ToTrainOn { tree, extent })
    }

    fn keep(&self, plan: &CatalogPlan, next: u64) -> Result<(), CatalogError> {
        if let Some(path) = &self.plan {
            let written = atomic_file::write(path, &serde_json::to_vec_pretty(plan)?);
            written.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let mut open = self.opened();
        open.eras = plan.eras_from(next).to_vec();
        open.keep_needed();
        Ok(())
    }
}

impl riser_coordinator::catalogs::CatalogSource for RunCatalogs {
    fn open(&self, era: &Era) -> Result<ToHandOut, SourceError> {
        let folder = era.folder.as_ref().ok_or("it is not the catalog of the run's own data")?;
        let next = self.read(folder)?;
        let prompts = RlPrompts::after(self.own.clone(), &next.change, self.max_prompt_tokens);
        let prompts = prompts.ok_or("no prompt has its target in it")?;
        Ok(ToHandOut { file: CatalogFile::new(next.data.tree()), prompts: Box::new(prompts) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use riser_learner::catalogs::CatalogSource;

    fn data() -> (tempfile::TempDir, Arc<DataFolder>) {
        let folder = tempfile::tempdir().unwrap();
        let world = riser_core::synthetic::WorldOptions { items: 60, users: 40, ..Default::default() };
        let options = riser_core::prepare::PrepareOptions::new(riser_core::prepare::Source::Synthetic(world));
        let data = riser_core::prepare::prepare(&options, &folder.path().join("data"), &mut |_| {}).unwrap();
        (folder, Arc::new(data))
    }

    #[test]
    fn what_was_written_down_since_the_checkpoint_is_gone_on_with_and_what_is_damaged_is_an_error() {
        let (folder, data) = data();
        let catalogs = || RunCatalogs::new(data.clone(), 64, Some(folder.path()));
        let own = CatalogPlan::new(data.tree().digest());
        assert_eq!(catalogs().plan_from(own.clone(), 0).unwrap(), own, "nothing was written down");
        let changed = own.with_change(Digest::of(b"next"), "/data/next".into(), None, 3, 9).unwrap();
        catalogs().keep(&changed, 0).unwrap();
        assert_eq!(catalogs().plan_from(own.clone(), 2).unwrap(), changed);
        assert_eq!(catalogs().plan_from(own.clone(), 3).unwrap(), own, "the checkpoint was made without the change");
        std::fs::write(folder.path().join(PLAN_FILE), "[{}]").unwrap();
        assert!(matches!(catalogs().plan_from(own, 0), Err(PlanFileError::Damaged { .. })));
    }
}
