//! `riser export`: a checkpoint as a Hugging Face folder.

use crate::cli::{Export, Format};
use crate::{model_folder, output};

/// Writes the folder and prints its path.
pub(crate) fn run(arguments: &Export, format: Format) -> anyhow::Result<()> {
    model_folder::export(&arguments.checkpoint, &arguments.out)?;
    match format {
        Format::Text => output::data(format!("{}\n", arguments.out.display())),
        Format::Json => output::json(&serde_json::json!({ "model": arguments.out })),
    }
}
