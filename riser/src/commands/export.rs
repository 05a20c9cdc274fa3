//! `riser export`: a checkpoint as a Hugging Face folder.

use crate::cli::{Export, Format};
use crate::model_folder;

/// Writes the folder and prints its path.
pub(crate) fn run(arguments: &Export, format: Format) -> anyhow::Result<()> {
    model_folder::export(&arguments.checkpoint, &arguments.out)?;
    match format {
        Format::Text => println!("{}", arguments.out.display()),
        Format::Json => println!("{}", serde_json::json!({ "model": arguments.out })),
    }
    Ok(())
}
