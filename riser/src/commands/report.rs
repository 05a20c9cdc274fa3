//! `riser report`: the HTML page of a run.

use crate::cli::{Format, Report};
use crate::report;

/// Writes the page and prints its path.
pub(crate) fn run(arguments: &Report, format: Format) -> anyhow::Result<()> {
    let path = report::write(&arguments.run)?;
    match format {
        Format::Text => println!("{}", path.display()),
        Format::Json => println!("{}", serde_json::json!({ "report": path })),
    }
    Ok(())
}
