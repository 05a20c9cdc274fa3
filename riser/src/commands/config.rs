//! `riser config show`: the resolved configuration.

use crate::cli::{Config, ConfigAction, Format};
use crate::output;

/// Prints the configuration that a run would use.
pub(crate) fn run(arguments: &Config, format: Format) -> anyhow::Result<()> {
    let ConfigAction::Show(settings) = &arguments.action;
    let config = settings.resolve()?;
    match format {
        Format::Text => output::data(config.to_toml()),
        Format::Json => output::json(&config),
    }
}
