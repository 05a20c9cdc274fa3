//! `riser prepare`: from interactions to a data folder.

use crate::cli::Format;
use crate::cli::prepare::Prepare;
use crate::failure::{Hint, Usage};
use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use riser_core::data_folder::DataFolder;
use riser_core::dataset::DatasetError;
use riser_core::prepare::{PrepareError, PrepareOptions, ProgressEvent, Stage, prepare};
use std::fs;
use std::io::IsTerminal;
use std::path::Path;

/// Prepares the folder and prints the data report.
pub(crate) fn run(arguments: &Prepare, format: Format) -> anyhow::Result<()> {
    let (options, out) = arguments.source.options();
    let data = folder(&options, out)?;
    match format {
        Format::Text => output::data(data.report()?.to_markdown()),
        Format::Json => {
            let manifest = data.manifest();
            output::json(&serde_json::json!({
                "data": out,
                "digest": manifest.digest,
                "counts": manifest.counts,
                "report": data.report()?,
            }))
        }
    }
}

/// Prepares a data folder at `out` and shows how far it is.
pub(crate) fn folder(options: &PrepareOptions, out: &Path) -> anyhow::Result<DataFolder> {
    let is_ours = out.join("manifest.json").exists();
    if !is_ours && fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Usage(format!("{} exists and is not a data folder", out.display())))
            .hint(|| "choose a new folder".to_owned());
    }
    let is_terminal = std::io::stderr().is_terminal();
    let bar = is_terminal.then(|| {
        let style = ProgressStyle::with_template("prepare  {spinner} {msg}").expect("the template is valid");
        ProgressBar::new_spinner().with_style(style)
    });
    let mut show = |event: ProgressEvent| {
        let text = describe(event.stage);
        match &bar {
            Some(bar) if event.total > 1 => bar.set_message(format!("{text}: {} of {}", event.done, event.total)),
            Some(bar) => bar.set_message(text),
            None if event.done == 0 => output::note(format!("prepare: {text}")),
            None => {}
        }
    };
    let prepared = prepare(options, out, &mut show);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    match prepared {
        Err(PrepareError::Dataset(error)) => match flag_hint(&error) {
            Some(hint) => Err(error).hint(|| hint.to_owned()),
            None => Err(error.into()),
        },
        other => Ok(other?),
    }
}

fn describe(stage: Stage) -> &'static str {
    match stage {
        Stage::Read => "reading items and rows",
        Stage::Tokenizer => "making the tokenizer",
        Stage::Spell => "spelling items",
        Stage::Tree => "building the prefix tree",
        Stage::Measure => "measuring for the report",
        Stage::Write => "writing files",
        Stage::Verify => "verifying what was written",
    }
}

/// What can be typed differently.
fn flag_hint(error: &DatasetError) -> Option<&'static str> {
    Some(match error {
        DatasetError::NoColumn { .. } => {
            "name the columns of your files with `--user-column`, `--item-column`, `--time-column`, `--item-id-column` and \
             `--title-column`"
        }
        DatasetError::OtherTitle { .. } => {
            "the item list and the rows number items differently: use files of one release"
        }
        DatasetError::UnknownItem { .. }
        | DatasetError::EmptyTitle { .. }
        | DatasetError::DuplicateItem { .. }
        | DatasetError::Value { .. } => "correct the line, or leave such records out with `--bad-records drop`",
        DatasetError::NoTime => "name the column with `--time-column`, or use `--split leave-one-out`",
        DatasetError::NothingLeft { .. } => "lower `--min-interactions`, or check that user ids repeat in the log",
        DatasetError::UnknownFormat { .. } => "say what it is with `--file-format`",
        _ => return None,
    })
}
