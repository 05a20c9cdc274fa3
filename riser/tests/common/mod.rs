//! What every test of the built program starts from: the program in a folder of its own, a tiny model, a generated catalog.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The beginning of every configuration; stages and cluster are each test's own.
const MODEL: &str = r#"
seed = 7
[data]
path = "data"
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
intermediate_size = 32
max_prompt_tokens = 96
[rollout]
samples = 6
group = 4
"#;

/// The program in `folder`, with nothing of the environment.
pub(crate) fn riser(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_riser"));
    command.args(arguments).current_dir(folder).env_clear();
    command
}

/// Standard output of a command that must succeed, as JSON, and its standard error.
pub(crate) fn success(mut command: Command) -> (Value, String) {
    let output = command.args(["--format", "json"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{command:?}: {stderr}");
    (serde_json::from_slice(&output.stdout).unwrap(), stderr)
}

/// Standard output of a command that must succeed, as JSON.
pub(crate) fn json(folder: &Path, arguments: &[&str]) -> Value {
    success(riser(folder, arguments)).0
}

/// A folder with prepared data and the configuration `run.toml`, which ends with `stages`.
pub(crate) fn prepared(stages: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("run.toml"), [MODEL, stages].concat()).unwrap();
    let prepared = json(folder.path(), &["prepare", "synthetic", "data", "--items", "60", "--users", "150"]);
    assert_eq!(prepared["counts"]["items"], 60);
    folder
}
