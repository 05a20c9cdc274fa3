//! The prompts of the reinforcement stage.

use riser_coordinator::prompts::{PromptSource, SourceError};
use riser_core::data_folder::DataFolder;
use riser_core::ids::RowId;
use riser_core::lease::Prompt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The rows that `riser prepare` set aside as prompts; a row of the source is a position among them.
pub struct RlPrompts {
    data: Arc<DataFolder>,
    max_prompt_tokens: usize,
    num_rows: NonZeroU32,
}

impl RlPrompts {
    /// The prompts of a data folder; `None` if there are none.
    pub fn new(data: Arc<DataFolder>, max_prompt_tokens: usize) -> Option<Self> {
        let num_rows = NonZeroU32::new(u32::try_from(data.rl_train().len()).ok()?)?;
        Some(Self { data, max_prompt_tokens, num_rows })
    }
}

impl PromptSource for RlPrompts {
    fn num_rows(&self) -> NonZeroU32 {
        self.num_rows
    }

    fn prompt(&self, row: RowId) -> Result<Prompt, SourceError> {
        let row = self.data.row(self.data.rl_train()[row.0 as usize]);
        let titles = self.data.dataset().history_titles(row);
        let tokens = self.data.speller().prompt_tokens(&titles, self.max_prompt_tokens)?;
        Ok(Prompt { tokens, target: row.target })
    }
}
