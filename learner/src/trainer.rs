//! What the learner needs from a model.

use riser_core::{
    digest::Digest,
    group::RolloutGroup,
    ids::PolicyVersion,
    snapshot::{PolicyIdentity, PolicySnapshot, TensorDtype},
};
use riser_store::Contents;
use std::collections::BTreeMap;

/// Why a trainer failed, in its own words.
pub type TrainerError = Box<dyn std::error::Error + Send + Sync>;

/// Named figures in a fixed order.
pub type Metrics = BTreeMap<String, f64>;

/// A model with its optimizer. Every method may take long and is called on a thread of its own, never two at a time.
///
/// The same trainer state and the same batch must give the same next state, bit for bit: resuming rests on it.
pub trait Trainer: Send + 'static {
    /// From now on batches are made with `catalog`, and policies are measured on it; its groups name it too. Called before the
    /// first batch of each catalog, with one that the learner's [`CatalogSource`](crate::catalogs::CatalogSource) has opened.
    /// A trainer that knows groups only need not know.
    ///
    /// # Errors
    /// If it cannot train with that catalog; the run ends with it.
    fn adopt(&mut self, catalog: Digest) -> Result<(), TrainerError> {
        let _ = catalog;
        Ok(())
    }

    /// Takes one optimizer step on a whole batch, ordered by group id; the policy was at `version` before.
    ///
    /// # Errors
    /// Whatever makes the step impossible; the run ends with it.
    fn step(&mut self, version: PolicyVersion, batch: &[RolloutGroup]) -> Result<Metrics, TrainerError>;

    /// The present policy as workers should have it.
    ///
    /// # Errors
    /// For example a tensor that is no longer finite.
    fn snapshot(&self, version: PolicyVersion) -> Result<PolicySnapshot, TrainerError>;

    /// What the present policy is, and the policy as workers receive it, in `dtype`. A trainer that knows what its last
    /// step changed of it may say so ([`PolicySnapshot::with_changes`]).
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    fn serve(
        &mut self,
        version: PolicyVersion,
        dtype: TensorDtype,
    ) -> Result<(PolicyIdentity, PolicySnapshot), TrainerError> {
        let policy = self.snapshot(version)?;
        Ok((policy.identity(), policy.served_as(dtype)?))
    }

    /// Measures the present policy.
    ///
    /// # Errors
    /// Whatever makes the evaluation impossible; the run ends with it.
    fn evaluate(&mut self, version: PolicyVersion) -> Result<Metrics, TrainerError>;

    /// An immutable copy of everything that [`step`](Self::step) depends on, as the files of a checkpoint. Training waits for
    /// the copy; the bytes of the files are made, written and uploaded while it goes on.
    ///
    /// # Errors
    /// For example a device that does not give the parameters back.
    fn state(&self) -> Result<Contents, TrainerError>;
}
