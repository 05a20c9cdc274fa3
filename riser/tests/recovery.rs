//! Runs of the real program that are killed, damaged or robbed of their folder, and end as if nothing had happened.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
#[path = "common/stopped.rs"]
mod stopped;

use common::{json, prepared, riser, success};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const STAGES: &str = r#"
[sft]
steps = 6
rows_per_batch = 8
warmup_steps = 2
validate_every = 3
validation_rows = 20
checkpoint_every = 3
[train]
init = "sft"
steps = 40
workers = 1
lag = 1
groups_per_batch = 6
groups_per_lease = 2
evaluate_every = 4
evaluation_rows = 10
checkpoint_every = 4
"#;

/// Standard output of a command that must succeed, as JSON, and its standard error.
fn run(folder: &Path, arguments: &[&str]) -> (Value, String) {
    success(riser(folder, arguments))
}

/// Stops a command with `signal` when a line of its standard error starts with `line`.
fn stopped_at(folder: &Path, arguments: &[&str], line: &str, signal: &str) {
    let (status, rest) = stopped::stopped_at(folder, arguments, line, signal);
    assert!(!status.success(), "{rest:?}");
}

/// Data and a supervised policy.
fn trained() -> tempfile::TempDir {
    let folder = prepared(STAGES);
    json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
    folder
}

/// Whole checkpoints of a run, oldest first.
fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let is_whole = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("step-");
    let mut found: Vec<PathBuf> = entries.filter(is_whole).collect();
    found.sort();
    found
}

/// Steps of a kind in the metrics log.
fn logged(run: &Path, kind: &str) -> Vec<u64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["kind"] == kind).map(|event| event["step"].as_u64().unwrap()).collect()
}

#[test]
fn a_run_that_is_killed_and_loses_its_newest_checkpoint_ends_with_the_undisturbed_policy() {
    let folder = trained();
    let at = |name: &str| folder.path().join(name);
    let (undisturbed, _) = run(folder.path(), &["train", "-c", "run.toml", "--out", "whole"]);
    let train = ["train", "-c", "run.toml", "--out", "disturbed"];
    stopped_at(folder.path(), &train, "6 ", "-KILL");
    stopped_at(folder.path(), &train, "14 ", "-KILL");
    stopped_at(folder.path(), &train, "21 ", "-INT");

    let newest = checkpoints(&at("disturbed")).pop().unwrap();
    let weights = newest.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();

    let (ended, stderr) = run(folder.path(), &train);
    assert!(stderr.contains("is passed over (`model.safetensors` has digest "), "{stderr}");
    assert_eq!(ended["digest"], undisturbed["digest"]);
    let aside = newest.with_file_name(format!("damaged-{}", newest.file_name().unwrap().to_str().unwrap()));
    assert!(aside.is_dir());
    for kind in ["step", "evaluation"] {
        assert_eq!(logged(&at("disturbed"), kind), logged(&at("whole"), kind));
    }
}

#[test]
fn a_run_with_only_damaged_checkpoints_is_refused_with_a_hint_and_nothing_is_moved() {
    let folder = trained();
    let train = ["train", "-c", "run.toml", "--out", "rl"];
    stopped_at(folder.path(), &train, "6 ", "-INT");
    let all = checkpoints(&folder.path().join("rl"));
    all.iter().for_each(|checkpoint| fs::write(checkpoint.join("checkpoint.json"), "{}").unwrap());
    let output = riser(folder.path(), &train).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: none of the "), "{stderr}");
    assert!(stderr.contains("\n\nhint: bring back a copy of "), "{stderr}");
    assert_eq!(checkpoints(&folder.path().join("rl")), all);
}

#[test]
fn a_run_whose_folder_is_gone_goes_on_from_its_store() {
    let folder = trained();
    let (undisturbed, _) = run(folder.path(), &["train", "-c", "run.toml", "--out", "whole"]);
    let url = format!("store.url=file://{}", folder.path().join("store").display());
    let train = |out: &str| ["train", "-c", "run.toml", "--set", &url, "--out", out].map(str::to_owned);
    let first = train("one");
    stopped_at(folder.path(), &first.each_ref().map(String::as_str), "9 ", "-INT");
    fs::remove_dir_all(folder.path().join("one")).unwrap();
    // Another folder is the same run.
    let second = train("two");
    let (ended, _) = run(folder.path(), &second.each_ref().map(String::as_str));
    assert_eq!(ended["digest"], undisturbed["digest"]);
    let steps = logged(&folder.path().join("two"), "step");
    assert!(steps[0] >= 10 && steps.last() == Some(&40), "{steps:?}");
}
