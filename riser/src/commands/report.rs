//! `riser report`: the HTML page of a run.

use crate::cli::{Format, Report};
use crate::{output, report};

/// Writes the page and prints its path.
pub(crate) fn run(arguments: &Report, format: Format) -> anyhow::Result<()> {
    let path = report::write(&arguments.run)?;
    match format {
        Format::Text => output::data(format!("{}\n", path.display())),
        Format::Json => output::json(&serde_json::json!({ "report": path })),
    }
}
