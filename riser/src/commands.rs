//! One file per command. Parsing never acts and commands never parse.

mod audit;
mod bench;
mod catalog;
mod certs;
mod config;
mod coordinator;
mod evaluate;
mod export;
mod health;
mod learner;
mod prepare;
mod quickstart;
mod recommend;
mod report;
mod sft;
mod status;
mod top;
mod train;
mod worker;

use crate::cli::{Arguments, Command, Format};
use crate::failure::hinted;
use crate::output;
use anyhow::anyhow;
use riser_core::digest::Digest;
use std::path::Path;

/// Runs what was typed.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let format = arguments.format;
    match arguments.command {
        Command::Quickstart(command) => quickstart::run(&command, format),
        Command::Prepare(command) => prepare::run(&command, format),
        Command::Sft(command) => sft::run(&command, format),
        Command::Train(command) => train::run(&command, format),
        Command::Coordinator(command) => coordinator::run(&command, format),
        Command::Learner(command) => learner::run(&command, format),
        Command::Worker(command) => worker::run(&command, format),
        Command::Status(command) => status::run(&command, format),
        Command::Top(command) => top::run(&command),
        Command::Catalog(command) => catalog::run(&command, format),
        Command::Health(command) => health::run(&command, format),
        Command::Certs(command) => certs::run(&command, format),
        Command::Evaluate(command) => evaluate::run(&command, format),
        Command::Recommend(command) => recommend::run(&command, format),
        Command::Export(command) => export::run(&command, format),
        Command::Report(command) => report::run(&command, format),
        Command::Audit(command) => audit::run(&command, format),
        Command::Bench(command) => bench::run(&command, format),
        Command::Config(command) => config::run(&command, format),
    }
}

/// Prints what a stage left behind; an interrupted stage is a failure with a remedy.
fn print_stage(
    format: Format,
    has_ended: bool,
    model: &Path,
    page: &Path,
    digest: Option<Digest>,
) -> anyhow::Result<()> {
    if !has_ended {
        return Err(interrupted());
    }
    match format {
        Format::Text => {
            let digest = digest.map(|digest| format!("digest  {digest}\n")).unwrap_or_default();
            output::data(format!("model   {}\n{digest}report  {}\n", model.display(), page.display()))
        }
        Format::Json => output::json(&serde_json::json!({ "model": model, "digest": digest, "report": page })),
    }
}

/// The end of a stage that was stopped by the user.
fn interrupted() -> anyhow::Error {
    hinted(anyhow!("the run was stopped before its end"), "what was done is saved; the same command goes on from there")
}
