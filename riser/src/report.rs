//! The report of a run: one self-contained HTML page with curves, tables and the configuration.
//!
//! No script, font or picture comes from elsewhere, so the page can be mailed and still opens in ten years.

mod chart;
mod curves;

use crate::metrics_log;
use crate::run_folder::RunFolder;
use anyhow::Context;
use chart::escape;
use riser::measurement::Comparison;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the page inside a run folder.
pub(crate) const FILE: &str = "report.html";

/// Writes the report of a run folder, or of a folder that holds several runs, and gives its path.
pub(crate) fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    let runs = match RunFolder::existing(folder) {
        Ok(run) => vec![run],
        Err(not_a_run) => {
            let inner: Vec<_> =
                ["sft", "rl"].iter().filter_map(|name| RunFolder::existing(&folder.join(name)).ok()).collect();
            if inner.is_empty() {
                return Err(not_a_run);
            }
            inner
        }
    };
    let path = folder.join(FILE);
    fs::write(&path, page(folder, &runs)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn page(folder: &Path, runs: &[RunFolder]) -> anyhow::Result<String> {
    let title = folder.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut body = format!("<h1>RISER: {}</h1>\n", escape(&title));
    let comparison = folder.join(Comparison::FILE);
    if comparison.exists() {
        let text = fs::read_to_string(&comparison)?;
        let comparison: Comparison =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", comparison.display()))?;
        body += &comparison_table(&comparison);
    }
    for run in runs {
        let identity = run.identity()?;
        let _ = writeln!(body, "<h2>{}</h2>", stage_name(&identity.command));
        let _ = writeln!(
            body,
            "<p class=\"facts\">seed {} &middot; begun {} &middot; data {} &middot; configuration {} &middot; riser {} \
             &middot; {} cores</p>",
            identity.seed,
            escape(&identity.started),
            identity.data_digest.short(),
            identity.config_digest.short(),
            escape(&identity.program_version),
            identity.cores,
        );
        let events = match run.metrics() {
            path if path.exists() => metrics_log::read(&path)?,
            _ => Vec::new(),
        };
        let charts: String = curves::charts(&identity.command, &events).iter().filter_map(|c| c.to_html()).collect();
        let _ = match charts.is_empty() {
            true => writeln!(body, "<p>Nothing was logged yet.</p>"),
            false => writeln!(body, "<div class=\"charts\">\n{charts}</div>"),
        };
        let config = fs::read_to_string(run.path().join("config.toml")).unwrap_or_default();
        let _ = writeln!(body, "<details><summary>Configuration</summary><pre>{}</pre></details>", escape(&config));
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>RISER: {}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n",
        escape(&title),
        include_str!("report/style.css"),
    ))
}

fn stage_name(command: &str) -> &str {
    match command {
        "sft" => "Supervised stage",
        "train" => "Reinforcement stage",
        other => other,
    }
}

fn comparison_table(comparison: &Comparison) -> String {
    let (header, rows) = comparison.cells();
    let mut html = "<h2>Before and after</h2>\n<table>\n<thead><tr>".to_owned();
    for cell in header {
        let _ = write!(html, "<th>{}</th>", escape(cell));
    }
    html += "</tr></thead>\n<tbody>\n";
    for (row, cells) in comparison.rows.iter().zip(rows) {
        let class = match row {
            row if row.low > 0.0 => "better",
            row if row.high < 0.0 => "worse",
            _ => "open",
        };
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        let _ = writeln!(html, "<tr class=\"{class}\">{cells}</tr>");
    }
    let _ = writeln!(html, "</tbody>\n</table>\n<p class=\"facts\">{}</p>", escape(&comparison.caption));
    html
}

#[cfg(test)]
mod tests;
