//! The learner's side: a policy that trains, is measured and is saved.

use super::catalogs::{NextCatalog, RunCatalogs};
use crate::ranking::{self, Search};
use crate::training_state;
use riser_core::data_folder::{DataFolder, PromptRow};
use riser_core::dataset::Split;
use riser_core::digest::Digest;
use riser_core::group::RolloutGroup;
use riser_core::ids::PolicyVersion;
use riser_core::snapshot::{PolicyIdentity, PolicySnapshot, TensorDtype};
use riser_learner::trainer::TrainerError;
use riser_learner::{Metrics, Trainer};
use riser_policy::checkpoint::{self, CheckpointError};
use riser_policy::inference::Inference;
use riser_policy::optimizer::AdamW;
use riser_policy::parameters::Parameters;
use riser_policy::reinforce::{Reinforce, ReinforceSettings};
use riser_policy::training::{OPTIMIZER_FILE, Training};
use riser_policy::{Device, TensorError};
use riser_store::Contents;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// The rows that a policy is measured on while it trains.
pub struct Watch {
    /// The rows.
    pub rows: Vec<PromptRow>,
    /// How items are ranked for them.
    pub search: Search,
}

/// A policy in reinforcement training.
pub struct PolicyTrainer {
    data: Arc<DataFolder>,
    catalogs: Arc<RunCatalogs>,
    /// The catalog that batches are made with; `None` is the data's own.
    next: Option<Arc<NextCatalog>>,
    reinforce: Reinforce,
    watch: Watch,
}

impl PolicyTrainer {
    /// Starts from the supervised policy, which is also the reference of the penalties.
    ///
    /// # Errors
    /// Whatever the model reports.
    pub fn start(
        reference: &Parameters,
        data: Arc<DataFolder>,
        catalogs: Arc<RunCatalogs>,
        settings: ReinforceSettings,
        watch: Watch,
    ) -> Result<Self, TensorError> {
        let training = Training::new(reference.duplicate()?, settings.optimizer)?;
        let reinforce = Reinforce::new(training, reference, settings)?;
        Ok(Self { reinforce, data, catalogs, next: None, watch })
    }

    /// Goes on from a folder with the files of [`Trainer::state`].
    ///
    /// # Errors
    /// [`CheckpointError`] for a folder that is not a checkpoint, or whatever the model reports.
    pub fn resume(
        folder: &Path,
        device: &Device,
        reference: &Parameters,
        data: Arc<DataFolder>,
        catalogs: Arc<RunCatalogs>,
        settings: ReinforceSettings,
        watch: Watch,
    ) -> Result<Self, CheckpointError> {
        let content =
            |error: TensorError| CheckpointError::Content { path: folder.to_owned(), what: error.to_string() };
        let parameters = checkpoint::load(folder, device)?;
        let optimizer = AdamW::load(&folder.join(OPTIMIZER_FILE), &parameters, settings.optimizer)?;
        let training = Training::resume(parameters, optimizer).map_err(content)?;
        let reinforce = Reinforce::new(training, reference, settings).map_err(content)?;
        Ok(Self { reinforce, data, catalogs, next: None, watch })
    }

    fn parameters(&self) -> &Parameters {
        self.reinforce.training().parameters()
    }
}

impl Trainer for PolicyTrainer {
    fn adopt(&mut self, catalog: Digest) -> Result<(), TrainerError> {
        self.next = match catalog == self.data.tree().digest() {
            true => None,
            false => Some(self.catalogs.in_use(catalog).ok_or_else(|| format!("catalog {catalog} is not open"))?),
        };
        // Of a later catalog nobody knows but the run's own rows who chose what, and nothing of the items it adds.
        let chosen = self.data.dataset().rows(Split::Train).iter().map(|row| row.target);
        match &self.next {
            None => self.reinforce.adopt(self.data.tree(), chosen),
            Some(next) => self.reinforce.adopt(next.data.tree(), chosen.filter_map(|item| next.change.place(item))),
        }
        Ok(())
    }

    fn step(&mut self, _version: PolicyVersion, batch: &[RolloutGroup]) -> Result<Metrics, TrainerError> {
        let tree = self.next.as_ref().map_or(self.data.tree(), |next| next.data.tree());
        Ok(figures(&self.reinforce.step(tree, batch)?)?)
    }

    fn snapshot(&self, version: PolicyVersion) -> Result<PolicySnapshot, TrainerError> {
        Ok(self.parameters().snapshot(version)?)
    }

    fn serve(
        &mut self,
        version: PolicyVersion,
        dtype: TensorDtype,
    ) -> Result<(PolicyIdentity, PolicySnapshot), TrainerError> {
        Ok(self.reinforce.serve(version, dtype)?)
    }

    fn evaluate(&mut self, _version: PolicyVersion) -> Result<Metrics, TrainerError> {
        let inference = Inference::new(self.reinforce.training().inference_model().clone())?;
        let Watch { rows, search } = &self.watch;
        let ranking = match &self.next {
            Some(next) => ranking::rank_after(&inference, &self.data, next, rows, *search)?,
            None => ranking::rank(&inference, &self.data, rows, *search, &|_| ())?,
        };
        Ok(ranking.means(search.top_k))
    }

    fn state(&self) -> Result<Contents, TrainerError> {
        Ok(training_state::contents(self.reinforce.training().state()?))
    }
}

/// The numbers of a report by name; what a report does not have is left out.
fn figures(report: &impl Serialize) -> Result<Metrics, serde_json::Error> {
    let serde_json::Value::Object(fields) = serde_json::to_value(report)? else { return Ok(Metrics::new()) };
    Ok(fields.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::figures;

    #[test]
    fn figures_are_the_numbers_of_a_report_and_missing_ones_are_left_out() {
        #[derive(serde::Serialize)]
        struct Report {
            loss: f64,
            pairs: usize,
            entropy: Option<f64>,
        }
        let figures = figures(&Report { loss: 0.5, pairs: 3, entropy: None }).unwrap();
        assert_eq!(figures, [("loss".to_owned(), 0.5), ("pairs".to_owned(), 3.0)].into());
    }
}
