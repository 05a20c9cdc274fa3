//! A user's way through the program on a tiny generated catalog: every stage for real, seconds in all.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
#[path = "common/output.rs"]
mod output;
#[path = "common/stopped.rs"]
mod stopped;

use common::{json, prepared};
use output::output;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use stopped::stopped_at;

const STAGES: &str = r#"
[sft]
steps = 12
rows_per_batch = 8
warmup_steps = 2
validate_every = 4
validation_rows = 20
checkpoint_every = 4
[train]
init = "sft"
steps = 6
groups_per_batch = 6
groups_per_lease = 2
evaluate_every = 3
evaluation_rows = 10
checkpoint_every = 2
[evaluate]
rows = 30
top_k = 10
"#;

/// Ends a command with Ctrl-C when a line of its standard error starts with `line`.
fn interrupted_at(folder: &Path, arguments: &[&str], line: &str) {
    let (status, rest) = stopped_at(folder, arguments, line, "-INT");
    assert_eq!(status.code(), Some(1), "{rest:?}");
}

#[test]
fn every_command_does_its_part_on_a_generated_catalog() {
    let folder = prepared(STAGES);
    let at = |name: &str| folder.path().join(name);
    json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
    let trained = json(folder.path(), &["train", "-c", "run.toml", "--out", "rl"]);
    for file in ["config.toml", "run.json", "metrics.jsonl", "report.html", "model/config.json", "model/tokenizer.json"]
    {
        assert!(at("sft").join(file).exists() && at("rl").join(file).exists(), "{file} is missing");
    }

    let audit = json(folder.path(), &["audit", "rl"]);
    assert_eq!((&audit["clean"], &audit["version"]), (&true.into(), &6.into()));
    assert_eq!(audit["account"]["trained"], 36);

    let evaluated = json(folder.path(), &["evaluate", "rl", "--against", "sft", "-c", "run.toml"]);
    assert_eq!(evaluated["summary"]["rows"], 30);
    assert_eq!(evaluated["summary"]["invalid_items"], 0);
    assert_eq!(evaluated["policy"], trained["digest"]);
    assert_eq!(evaluated["comparison"]["rows"].as_array().unwrap().len(), 6);
    assert!(at("rl").join("evaluation.json").exists());

    let full = json(folder.path(), &["evaluate", "rl", "--full", "--against", "sft", "-c", "run.toml"]);
    let figures = |evaluation: &Value| -> HashMap<String, f64> {
        let metrics = evaluation["summary"]["metrics"].as_array().unwrap().iter();
        metrics.map(|it| (it["metric"].as_str().unwrap().to_owned(), it["estimate"].as_f64().unwrap())).collect()
    };
    let (full_figures, figures) = (figures(&full), figures(&evaluated));
    assert!(figures.iter().all(|(name, value)| full_figures[name] == *value), "{full_figures:?} beside {figures:?}");
    assert!((full_figures["catalog mass"] - 1.0).abs() < 1e-4, "{full_figures:?}");
    assert!(full_figures["MRR"] > 0.0 && full_figures["HR@50"] >= full_figures["HR@10"], "{full_figures:?}");
    assert!(full_figures["entropy nats"] < 60f64.ln() && full_figures["mass@50"] > full_figures["mass@10"]);
    assert_eq!(full["comparison"]["rows"].as_array().unwrap().len(), full_figures.len());

    let recommended = json(folder.path(), &["recommend", "rl", "--top", "60", "--repeats", "g0000"]);
    let probability: f64 =
        recommended.as_array().unwrap().iter().map(|item| item["probability"].as_f64().unwrap()).sum();
    assert_eq!(recommended.as_array().unwrap().len(), 60);
    assert!((probability - 1.0).abs() < 1e-3, "all items together have probability {probability}");

    json(folder.path(), &["export", "rl", "exported"]);
    let again = json(folder.path(), &["evaluate", "exported", "-c", "run.toml"]);
    assert_eq!((&again["policy"], &again["summary"]), (&evaluated["policy"], &evaluated["summary"]));

    let (status, _, stderr) = output(folder.path(), &["export", "rl", "exported"]);
    assert_eq!(
        (status, stderr.as_str()),
        (Some(2), "error: exported exists and is not empty\n\nhint: choose a new folder\n")
    );
}

#[test]
fn mistakes_about_data_and_runs_end_with_status_2_and_a_hint() {
    let folder = prepared(STAGES);
    let refusal = |arguments: &[&str]| {
        let (status, stdout, stderr) = output(folder.path(), arguments);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains("\n\nhint: "), "{stderr}");
        stderr
    };
    json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
    let stderr = refusal(&["sft", "-c", "run.toml", "--set", "seed=8", "--out", "sft"]);
    assert!(stderr.starts_with("error: sft already holds a run with another configuration"), "{stderr}");
    let stderr = refusal(&["train", "-c", "run.toml", "--out", "sft"]);
    assert!(stderr.starts_with("error: sft already holds a run of `riser sft`"), "{stderr}");
    let stderr = refusal(&["train", "-c", "run.toml", "--set", "train.init=nowhere", "--out", "rl"]);
    assert!(stderr.starts_with("error: there is no model in nowhere"), "{stderr}");
    let stderr = refusal(&["recommend", "sft", "--data", "data", "no such thing at all"]);
    assert!(stderr.starts_with("error: `no such thing at all` is neither a title nor an id"), "{stderr}");
}

#[test]
fn a_finished_run_is_not_run_again() {
    let folder = prepared(STAGES);
    json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
    let first = json(folder.path(), &["train", "-c", "run.toml", "--out", "rl"]);
    let metrics = std::fs::read(folder.path().join("rl/metrics.jsonl")).unwrap();
    assert_eq!(json(folder.path(), &["train", "-c", "run.toml", "--out", "rl"]), first);
    assert_eq!(std::fs::read(folder.path().join("rl/metrics.jsonl")).unwrap(), metrics);
}

#[test]
fn interrupted_runs_end_with_the_same_bits_whatever_the_number_of_workers() {
    let folder = prepared(STAGES);
    let sft = ["sft", "-c", "run.toml", "--set", "sft.steps=400", "--out"];
    let slow = [&sft[..], &["interrupted"]].concat();
    interrupted_at(folder.path(), &slow, "10 ");
    json(folder.path(), &slow);
    json(folder.path(), &[&sft[..], &["sft"]].concat());
    let weights = |run: &str| std::fs::read(folder.path().join(run).join("model/model.safetensors")).unwrap();
    assert!(weights("interrupted") == weights("sft"), "the interrupted supervised stage ended with other weights");

    let train = ["train", "-c", "run.toml", "--set", "train.steps=40", "--set"];
    let one = json(folder.path(), &[&train[..], &["train.workers=1", "--out", "one"]].concat());
    let three = [&train[..], &["train.workers=3", "--out", "three"]].concat();
    interrupted_at(folder.path(), &three, "3 ");
    assert_eq!(json(folder.path(), &three)["digest"], one["digest"]);
    for run in ["one", "three"] {
        let audit = json(folder.path(), &["audit", run]);
        assert_eq!((&audit["clean"], &audit["version"]), (&true.into(), &40.into()), "{audit}");
    }

    let bounded = ["train.schedule=\"bounded\"", "--set", "train.max_staleness=2", "--out", "bounded"];
    let bounded = [&train[..], &bounded].concat();
    interrupted_at(folder.path(), &bounded, "3 ");
    json(folder.path(), &bounded);
    let audit = json(folder.path(), &["audit", "bounded"]);
    assert_eq!((&audit["clean"], &audit["account"]["trained"]), (&true.into(), &240.into()), "{audit}");
}

#[test]
fn a_log_that_was_tampered_with_ends_the_audit_with_status_1_and_names_the_event() {
    let folder = prepared(STAGES);
    json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
    let (status, _, stderr) = output(folder.path(), &["audit", "sft"]);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.starts_with("error: no event log: sft/run.db does not exist"), "{stderr}");
    json(folder.path(), &["train", "-c", "run.toml", "--out", "rl"]);
    let connection = rusqlite::Connection::open(folder.path().join("rl/run.db")).unwrap();
    let event: i64 = connection.query_row("SELECT id FROM batches WHERE group_id = 35", [], |row| row.get(0)).unwrap();
    connection.execute("UPDATE batches SET group_id = 0 WHERE group_id = 35", []).unwrap();
    drop(connection);
    let (status, stdout, stderr) = output(folder.path(), &["audit", "rl"]);
    assert_eq!(status, Some(1));
    let line = format!(
        "a group is trained on at most once: event {event} (batches): group 0 was trained on into version 6, and before \
         that into version 1"
    );
    assert!(stdout.lines().any(|text| text == line), "{stdout}");
    assert!(stderr.starts_with("error: rl breaks its invariants"), "{stderr}");
}

#[test]
fn a_run_with_bf16_weights_gives_the_same_bits_with_any_number_of_workers_and_says_how_far_sampler_and_learner_are_apart()
 {
    let folder = prepared(STAGES);
    json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
    let train = |dtype: &str, workers: u32| {
        let (dtype, workers) = (format!("train.served_dtype={dtype}"), format!("train.workers={workers}"));
        let out = format!("{dtype}-{workers}");
        let set = ["train", "-c", "run.toml", "--set", &dtype, "--set", &workers, "--out", &out];
        let digest = json(folder.path(), &set)["digest"].clone();
        let metrics = std::fs::read_to_string(folder.path().join(&out).join("metrics.jsonl")).unwrap();
        let mismatch = metrics.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["mismatch_max"].as_f64()
        });
        (digest, mismatch.fold(0.0, f64::max))
    };
    let (digest, mismatch) = train("bf16", 1);
    assert_eq!(train("bf16", 3), (digest.clone(), mismatch));
    let (plain, rounding_of_f32) = train("f32", 1);
    assert_ne!(digest, plain);
    assert!(mismatch > 10.0 * rounding_of_f32 && mismatch < 0.5, "{mismatch} against {rounding_of_f32}");
}
