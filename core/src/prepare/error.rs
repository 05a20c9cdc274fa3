//! Why a preparation ends early.

use crate::{
    data_folder::DataFolderError,
    dataset::{DatasetError, Split},
    prefix_tree::BuildError,
    spelling::SpellingError,
    synthetic::WorldError,
};

/// Why a preparation ended.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The source.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The generated world.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The tokenizer or the template.
    #[error(transparent)]
    Spelling(#[from] SpellingError),
    /// An item that cannot be spelled.
    #[error("item `{id}`: {source}")]
    Item {
        /// Its id.
        id: String,
        /// Why.
        source: SpellingError,
    },
    /// The catalog cannot be a prefix tree.
    #[error("item `{id}`: {source}")]
    Tree {
        /// Id of the first item concerned.
        id: String,
        /// Why.
        source: BuildError,
    },
    /// The output folder.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// A share outside 0 to 1.
    #[error("`prompts.watch_share` must be at least 0 and less than 1, got {value}")]
    WatchShare {
        /// Its value.
        value: f64,
    },
    /// No rows to draw prompts from.
    #[error("there are no prompts: the {} split is empty", .split.name())]
    NoPrompts {
        /// The split.
        split: Split,
    },
}

impl PrepareError {
    /// What the user can do about it, if there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        let about_spelling = |error: &SpellingError| match error {
            SpellingError::NoEndToken { .. } => {
                Some("template `tokens` goes with a trained tokenizer, `d3` with that of a Qwen2 folder")
            }
            SpellingError::Context { .. } => {
                Some("let the context of the template end with a line break or a special token")
            }
            _ => None,
        };
        match self {
            Self::Dataset(error) => error.hint(),
            Self::Spelling(error) | Self::Item { source: error, .. } => about_spelling(error),
            Self::NoPrompts { split: Split::Valid } => {
                Some("set `prompts.source = \"train\"`, or a larger `valid_share`")
            }
            _ => None,
        }
    }
}
