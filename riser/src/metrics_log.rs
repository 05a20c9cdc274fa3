//! `metrics.jsonl`: one event per line, written as the run goes.

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Appends events to the log of a run.
pub(crate) struct MetricsLog {
    file: File,
}

/// Kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// An optimizer step.
    Step,
    /// A validation or evaluation between the steps.
    Evaluation,
}

#[derive(Serialize)]
struct Event<'a, T> {
    kind: Kind,
    step: u64,
    #[serde(flatten)]
    values: &'a T,
}

impl MetricsLog {
    /// Opens the log to continue after `step`: what was logged later belongs to work that is done again.
    pub(crate) fn continue_after(path: &Path, step: u64) -> anyhow::Result<Self> {
        if path.exists() {
            let kept: String = read(path)?
                .iter()
                .filter(|event| event["step"].as_u64().is_some_and(|at| at <= step))
                .map(|event| format!("{event}\n"))
                .collect();
            let staged = path.with_extension("jsonl.new");
            std::fs::write(&staged, kept)
                .and_then(|()| std::fs::rename(&staged, path))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: file.with_context(|| format!("cannot write {}", path.display()))? })
    }

    /// Opens an empty log, for a run that begins: what an attempt logged that left no checkpoint is done again.
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path);
        Ok(Self { file: file.with_context(|| format!("cannot write {}", path.display()))? })
    }

    /// Adds one event; `values` must serialize to a map.
    pub(crate) fn append(&mut self, kind: Kind, step: u64, values: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&Event { kind, step, values })?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).context("cannot append to the metrics log")
    }
}

/// All events of a log; a last line cut short by a crash is left out.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut events = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line.ends_with('\n') {
            let event = serde_json::from_str(line);
            events.push(event.with_context(|| format!("{}, line {}: not an event", path.display(), index + 1))?);
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_after_the_resumed_step_are_dropped_and_a_cut_line_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::continue_after(&path, 0).unwrap();
        for step in 1..=3 {
            log.append(Kind::Step, step, &json!({ "loss": 0.5 })).unwrap();
        }
        log.file.write_all(b"{\"kind\":\"st").unwrap();
        MetricsLog::continue_after(&path, 2).unwrap().append(Kind::Evaluation, 2, &json!({ "hr@10": 0.1 })).unwrap();
        let steps: Vec<_> = read(&path).unwrap().iter().map(|event| event["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [1, 2, 2]);
    }
}
