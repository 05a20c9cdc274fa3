//! The prompts of the reinforcement stage.

use riser_coordinator::prompts::{PromptSource, SourceError};
use riser_core::catalog::change::CatalogChange;
use riser_core::data_folder::{DataFolder, PromptRow};
use riser_core::ids::{ItemIndex, RowId};
use riser_core::lease::Prompt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The rows that `riser prepare` set aside as prompts; a row of the source is a position among them.
pub struct RlPrompts {
    data: Arc<DataFolder>,
    /// Each row with the place of its target in the catalog that items are sampled from.
    rows: Vec<(PromptRow, ItemIndex)>,
    max_prompt_tokens: usize,
    num_rows: NonZeroU32,
}

impl RlPrompts {
    /// The prompts of a data folder, with targets in its own catalog; `None` if there are none.
    pub fn new(data: Arc<DataFolder>, max_prompt_tokens: usize) -> Option<Self> {
        let rows = data.rl_train().iter().map(|&row| (row, data.row(row).target)).collect();
        Self::of(data, rows, max_prompt_tokens)
    }

    /// Those of them whose targets stay in the catalog that `change` leads to; `None` if there are none.
    pub fn after(data: Arc<DataFolder>, change: &CatalogChange, max_prompt_tokens: usize) -> Option<Self> {
        let rows = change.rows(&data, data.rl_train());
        Self::of(data, rows, max_prompt_tokens)
    }

    fn of(data: Arc<DataFolder>, rows: Vec<(PromptRow, ItemIndex)>, max_prompt_tokens: usize) -> Option<Self> {
        let num_rows = NonZeroU32::new(u32::try_from(rows.len()).ok()?)?;
        Some(Self { data, rows, max_prompt_tokens, num_rows })
    }
}

impl PromptSource for RlPrompts {
    fn num_rows(&self) -> NonZeroU32 {
        self.num_rows
    }

    fn prompt(&self, row: RowId) -> Result<Prompt, SourceError> {
        let (row, target) = self.rows[row.0 as usize];
        let titles = self.data.dataset().history_titles(self.data.row(row));
        let tokens = self.data.speller().prompt_tokens(&titles, self.max_prompt_tokens)?;
        Ok(Prompt { tokens, target })
    }
}
