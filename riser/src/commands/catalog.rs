//! `riser catalog`: the items of a run that is under way.

use crate::cli::{
    Format,
    cluster::{Catalog, CatalogAction, CatalogUpdate},
};
use crate::output;
use crate::processes::{credentials, operator};
use anyhow::Context;
use riser_proto::access::role::Role;

/// Asks the learner for the change and prints what it means.
pub(crate) fn run(arguments: &Catalog, format: Format) -> anyhow::Result<()> {
    let CatalogAction::Update(CatalogUpdate { folder, from_step, contact }) = &arguments.action;
    let (coordinator, credentials) = credentials::of_contact(contact, Role::Operator)?;
    let folder = std::path::absolute(folder).with_context(|| format!("{} is no path", folder.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = operator::change_catalog(coordinator, &credentials, &folder, *from_step);
    let changed = runtime.context("cannot start the runtime")?.block_on(asked)?;
    match format {
        Format::Json => output::json(&changed),
        Format::Text => output::data(format!(
            "catalog {} from step {} on: {} items new, {} gone, {} prompts left out\n",
            changed.catalog.short(),
            changed.from_step,
            changed.added,
            changed.removed,
            changed.skipped
        )),
    }
}
