//! `metrics.jsonl`: one event per line, written as the run goes.

use anyhow::Context;
use riser_core::atomic_file;
use serde::Serialize;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Appends events to the log of a run.
pub(crate) struct MetricsLog {
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// Whether there may be a part of a line after them.
    is_torn: bool,
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
            atomic_file::write(path, kept.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Self::on(OpenOptions::new().create(true).append(true).open(path), path)
    }

    /// Opens an empty log, for a run that begins: what an attempt logged that left no checkpoint is done again.
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Self> {
        Self::on(OpenOptions::new().create(true).append(true).open(path).and_then(emptied), path)
    }

    fn on(file: io::Result<File>, path: &Path) -> anyhow::Result<Self> {
        let opened = file.and_then(|file| Ok(Self { length: file.metadata()?.len(), file, is_torn: false }));
        opened.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Adds one event; `values` must serialize to a map. After an error it is as if nothing had been added.
    pub(crate) fn append(&mut self, kind: Kind, step: u64, values: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_string(&Event { kind, step, values })?;
        line.push('\n');
        if std::mem::replace(&mut self.is_torn, true) {
            self.file.set_len(self.length)?;
        }
        self.file.write_all(line.as_bytes())?;
        (self.length, self.is_torn) = (self.length + line.len() as u64, false);
        Ok(())
    }
}

fn emptied(file: File) -> io::Result<File> {
    file.set_len(0)?;
    Ok(file)
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

    const CUT: &[u8] = b"{\"kind\":\"st";

    /// `/dev/full` is a file that has no room.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_line_that_had_no_room_is_written_once_and_whole_when_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::begin(&path).unwrap();
        log.append(Kind::Step, 1, &json!({})).unwrap();
        let mut there = std::mem::replace(&mut log.file, OpenOptions::new().append(true).open("/dev/full").unwrap());
        for _ in 0..2 {
            assert!(log.append(Kind::Step, 2, &json!({})).is_err());
        }
        // What a disk takes before it is full.
        there.write_all(CUT).unwrap();
        log.file = there;
        for step in [2, 3] {
            log.append(Kind::Step, step, &json!({})).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"kind\":\"step\",\"step\":1}\n{\"kind\":\"step\",\"step\":2}\n{\"kind\":\"step\",\"step\":3}\n"
        );
    }

    #[test]
    fn events_after_the_resumed_step_are_dropped_and_a_cut_line_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::continue_after(&path, 0).unwrap();
        for step in 1..=3 {
            log.append(Kind::Step, step, &json!({ "loss": 0.5 })).unwrap();
        }
        log.file.write_all(CUT).unwrap();
        MetricsLog::continue_after(&path, 2).unwrap().append(Kind::Evaluation, 2, &json!({ "hr@10": 0.1 })).unwrap();
        let steps: Vec<_> = read(&path).unwrap().iter().map(|event| event["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [1, 2, 2]);
    }
}
