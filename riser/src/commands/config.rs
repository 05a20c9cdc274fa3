//! `riser config show`: the resolved configuration.

use crate::cli::{Config, ConfigAction, Format};

/// Prints the configuration that a run would use.
pub(crate) fn run(arguments: &Config, format: Format) -> anyhow::Result<()> {
    let ConfigAction::Show(settings) = &arguments.action;
    let config = settings.resolve()?;
    match format {
        Format::Text => print!("{}", config.to_toml()),
        Format::Json => println!("{}", serde_json::to_string(&config)?),
    }
    Ok(())
}
