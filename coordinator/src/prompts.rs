//! Where prompts come from.

use riser_core::{
    ids::{GroupId, RowId},
    lease::{Prompt, SampleRequest},
    prompt_order::PromptOrder,
    random::Seed,
};
use std::num::NonZeroU32;

/// Why a prompt could not be read.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// The rows of the split that prompts are drawn from.
pub trait PromptSource: Send + 'static {
    /// Number of rows.
    fn num_rows(&self) -> NonZeroU32;

    /// The prompt of a row; `row` is below [`num_rows`](Self::num_rows). Called on the actor's task, so it must be quick.
    ///
    /// # Errors
    /// Whatever the source says; the run ends with it.
    fn prompt(&self, row: RowId) -> Result<Prompt, SourceError>;
}

/// A prompt that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("prompt of row {row} cannot be read: {source}")]
pub struct PromptError {
    /// The row.
    pub row: RowId,
    /// What the source said.
    pub source: SourceError,
}

/// The prompts of a run: the rows of a source in the seeded order.
pub(crate) struct Prompts {
    source: Box<dyn PromptSource>,
    order: PromptOrder,
}

impl Prompts {
    pub(crate) fn new(source: Box<dyn PromptSource>, seed: Seed) -> Self {
        let order = PromptOrder::new(seed, source.num_rows());
        Self { source, order }
    }

    /// What to sample for `group`.
    pub(crate) fn request(&mut self, group: GroupId) -> Result<SampleRequest, PromptError> {
        let row = self.order.row(group);
        let prompt = self.source.prompt(row).map_err(|source| PromptError { row, source })?;
        Ok(SampleRequest { id: group, row, prompt })
    }
}
