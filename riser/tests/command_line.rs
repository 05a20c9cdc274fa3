//! What a person at a terminal sees: exit status, standard output and standard error of the built program.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;
use std::process::Command;

/// Exit status, standard output, standard error.
fn riser_in(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_riser"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn riser(arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    riser_in(folder.path(), arguments, &[])
}

/// A folder with a configuration file `run.toml`.
fn folder_with(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("run.toml"), config).unwrap();
    folder
}

/// What the configuration is refused with.
fn refusal(config: &str) -> String {
    let (status, stdout, stderr) = riser_in(folder_with(config).path(), &["config", "show", "-c", "run.toml"], &[]);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    stderr
}

#[test]
fn help_goes_to_stdout_and_names_every_command_with_examples() {
    let (status, stdout, stderr) = riser(&["--help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let cluster = ["coordinator", "learner", "worker", "health", "certs"];
    let others = [
        "quickstart",
        "prepare",
        "sft",
        "train",
        "evaluate",
        "recommend",
        "export",
        "audit",
        "report",
        "bench",
        "config",
    ];
    for word in others.iter().chain(&cluster) {
        assert!(stdout.contains(&format!("\n  {word} ")), "{word} is missing in:\n{stdout}");
    }
    assert!(stdout.contains("Examples:\n  riser quickstart"), "{stdout}");
    for command in others[..8].iter().chain(&cluster).copied() {
        let (status, stdout, _) = riser(&[command, "--help"]);
        assert_eq!(status, 0);
        assert!(stdout.contains("Example"), "`riser {command} --help` has no example:\n{stdout}");
    }
}

#[test]
fn a_part_that_is_measured_has_figures_as_json() {
    let (status, stdout, stderr) = riser(&["bench", "catalog", "--items", "300", "--rounds", "1", "--format", "json"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(figures["items"], 300);
    assert!(figures["bytes_per_node"].as_f64().unwrap() < 10.0, "{stdout}");
    assert!(figures["peak_memory_mib"].as_f64().unwrap() > 0.0, "{stdout}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("items.json"), r#"{"eos": 0, "items": [[1, 0], [1, 2, 0], [3, 0]]}"#).unwrap();
    let workload = folder.path().to_str().unwrap();
    let (status, stdout, stderr) = riser(&["bench", "catalog", "--workload", workload, "--rounds", "1", "--json"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.starts_with("{\"items\":3,"), "{stdout}");
    let (status, _, stderr) = riser(&["bench", "catalog", "--items", "0"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("--items"), "{stderr}");
}

#[test]
fn a_mistyped_command_is_answered_with_the_nearest_and_status_2() {
    let (status, stdout, stderr) = riser(&["evalute"]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(stderr.starts_with("error: unrecognized subcommand 'evalute'"), "{stderr}");
    assert!(stderr.contains("'evaluate'"), "{stderr}");
}

#[test]
fn config_show_prints_a_file_that_resolves_to_itself() {
    let (status, shown, stderr) = riser(&["config", "show", "--set", "sft.steps=7", "--set", "objective.preset=grpo"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(shown.contains("\nsteps = 7\n") && shown.contains("preset = \"grpo\""), "{shown}");
    let folder = folder_with(&shown);
    let (status, again, _) = riser_in(folder.path(), &["config", "show", "-c", "run.toml"], &[]);
    assert_eq!((status, again), (0, shown));
}

#[test]
fn the_environment_wins_over_the_file_and_flags_win_over_both() {
    let folder = folder_with("[sft]\nsteps = 1\nclip = 0.25\n");
    let arguments = ["config", "show", "-c", "run.toml", "--format", "json", "--set", "sft.steps=3"];
    let environment = [("RISER__SFT__STEPS", "2"), ("RISER__SFT__ROWS_PER_BATCH", "9")];
    let (status, stdout, stderr) = riser_in(folder.path(), &arguments, &environment);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let config: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(config["sft"]["steps"], 3);
    assert_eq!(config["sft"]["rows_per_batch"], 9);
    assert_eq!(config["sft"]["clip"], 0.25);
}

#[test]
fn an_unknown_key_is_reported_with_its_line_and_the_nearest_key() {
    assert_eq!(
        refusal("seed = 1\n[sft]\nlerning_rate = 0.1\n"),
        "error: run.toml, line 3: unknown key `sft.lerning_rate`\n\nhint: did you mean `sft.learning_rate`?\n"
    );
    assert_eq!(
        refusal("[objective.simpo]\nbetta = 2.0\n"),
        "error: run.toml, line 2: unknown key `objective.simpo.betta`\n\nhint: did you mean `objective.simpo.beta`?\n"
    );
}

#[test]
fn a_value_out_of_range_and_a_contradiction_are_reported_with_a_remedy() {
    assert_eq!(
        refusal("[sft]\nlearning_rate = 0.0\n"),
        "error: run.toml, line 2: `sft.learning_rate = 0` is out of range\n\n\
         hint: `sft.learning_rate` must be a number above 0\n"
    );
    assert_eq!(
        refusal("[objective.mask]\nsource = \"policy\"\n"),
        "error: run.toml, line 2: `objective.mask.source` has no effect with `objective.mask.law = \"certainty\"`\n\n\
         hint: set `objective.mask.law = \"information_gain\"`\n"
    );
    assert_eq!(
        refusal("[objective.mask]\nsmoothing = 2.0\n"),
        "error: run.toml, line 2: `objective.mask.smoothing` has no effect unless the mask weighs tokens by the popularity of \
         items\n\nhint: set `objective.mask.law = \"information_gain\"` and `objective.mask.source = \"popularity\"`\n"
    );
    assert_eq!(
        refusal("[objective.kl]\nanchor = \"behaviour\"\n"),
        "error: run.toml, line 2: `objective.kl.anchor = \"behaviour\"` has no effect with `optimizer.minibatches = 1` \
         and `train.lag = 0`\n\n\
         hint: set `objective.kl.anchor = \"reference\"`, or take at least 2 steps per batch with \
         `optimizer.minibatches`\n"
    );
    assert_eq!(
        refusal("[rollout]\nsamples = 8\n"),
        "error: `rollout.group = 16` is more than `rollout.samples = 8`\n\n\
         hint: draw at least 16 samples, or keep at most 8\n"
    );
}

#[test]
fn a_wrong_type_and_text_that_is_not_toml_are_reported_with_their_line() {
    let stderr = refusal("[sft]\n\nsteps = \"many\"\n");
    assert!(stderr.starts_with("error: run.toml, line 3: `sft.steps`: invalid type: string \"many\""), "{stderr}");
    let stderr = refusal("[sft]\nspace = catalog\n");
    assert!(stderr.starts_with("error: run.toml, line 2: not valid TOML: "), "{stderr}");
    assert!(stderr.contains("\n\nhint: strings need quotes"), "{stderr}");
}

#[test]
fn a_missing_file_is_named() {
    let (status, _, stderr) = riser(&["config", "show", "-c", "absent.toml"]);
    assert_eq!(status, 2);
    assert!(stderr.starts_with("error: cannot read the configuration file absent.toml: No such file"), "{stderr}");
    assert!(stderr.contains("\n\nhint: "), "{stderr}");
}

#[test]
fn a_stage_without_data_says_which_setting_is_missing() {
    let (status, stdout, stderr) = riser(&["sft", "--out", "run"]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert_eq!(
        stderr,
        "error: `data.path` is not set: it names the folder written by `riser prepare`\n\n\
         hint: write `path = \"FOLDER\"` below [data], or add `--set data.path=FOLDER`\n"
    );
}

#[test]
fn a_folder_that_is_not_a_run_has_no_report() {
    let (status, _, stderr) = riser(&["report", "."]);
    assert_eq!(status, 2);
    assert!(stderr.starts_with("error: . is not a run folder"), "{stderr}");
}

#[test]
fn bench_rollout_computes_shared_prefixes_once_and_refuses_nothing_to_sample() {
    let sizes = ["--hidden", "64", "--layers", "2", "--items", "60", "--prompt-tokens", "9", "--groups", "3"];
    let run = |more: &[&str]| riser(&[&["bench", "rollout", "--json", "--rounds", "2"], &sizes[..], more].concat());
    for space in ["catalog", "vocabulary"] {
        let (status, stdout, stderr) = run(&["--space", space, "--threads", "2"]);
        assert_eq!(status, 0, "{stderr}");
        let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let number = |key: &str| figures[key].as_f64().unwrap();
        assert!(number("rows_per_group") < number("naive_rows_per_group") / 2.0, "{stdout}");
        assert!((number("gflops") / number("peak_gflops") - number("share_of_peak")).abs() < 1e-9);
        assert!(number("distinct_per_group") <= 20.0 && number("gflop_per_group") > 0.0, "{stdout}");
    }
    let (status, _, stderr) = run(&["--group", "0"]);
    assert!(status == 2 && stderr.contains("--group"), "{stderr}");
    let (status, _, stderr) = run(&["--batch", "0"]);
    assert!(status == 2 && stderr.contains("--batch"), "{stderr}");
}

#[test]
fn bench_weights_and_bench_objective_report_figures_that_fit_each_other() {
    let sizes = ["--hidden", "64", "--layers", "2", "--items", "60", "--prompt-tokens", "9", "--groups", "3"];
    for (served, bytes) in [("bf16", 2.0), ("f32", 4.0)] {
        let options = ["bench", "weights", "--format", "json", "--updates", "2", "--served", served];
        let (status, stdout, stderr) = riser(&[&options[..], &sizes[..]].concat());
        assert_eq!(status, 0, "{stderr}");
        let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let number = |key: &str| figures[key].as_f64().unwrap();
        assert_eq!(number("policy_bytes"), bytes * number("parameters"));
        assert!(number("changed_share") > 0.0 && number("changed_share") <= 1.0);
        assert!(figures["milliseconds"]["apply"].as_f64().unwrap() > 0.0);
    }
    let (status, stdout, _) = riser(&[&["bench", "weights", "--updates", "1"], &sizes[..]].concat());
    assert!(status == 0 && stdout.contains("delta of noted changes"), "{stdout}");
    let (status, _, stderr) = riser(&["bench", "weights", "--served", "f16"]);
    assert!(status == 2 && stderr.contains("expected bf16 or f32"), "{stderr}");

    let options = ["bench", "objective", "--format", "json", "--rounds", "2"];
    let (status, stdout, stderr) = riser(&[&options[..], &sizes[..]].concat());
    assert_eq!(status, 0, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    for of_preset in figures.as_array().unwrap() {
        let number = |key: &str| of_preset[key].as_f64().unwrap();
        assert_eq!(number("groups"), 3.0);
        let (per_group, per_token) = (number("microseconds_per_group"), number("nanoseconds_per_token"));
        assert!((1e3 * per_group * 3.0 / (per_token * number("tokens")) - 1.0).abs() < 1e-6);
    }
    assert_eq!(figures.as_array().unwrap().len(), 8);
}

#[test]
fn bench_learner_keeps_to_a_memory_limit_or_says_what_it_takes() {
    let sizes = ["--hidden", "64", "--layers", "2", "--items", "60", "--prompt-tokens", "9", "--groups", "6"];
    let run = |limit: &str| {
        let options = ["bench", "learner", "--format", "json", "--updates", "1", "--memory-limit", limit];
        riser(&[&options[..], &sizes[..]].concat())
    };
    let (status, stdout, stderr) = run("1 GiB");
    assert_eq!(status, 0, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let number = |key: &str| figures[key].as_f64().unwrap();
    assert!(number("tapes_held_mib") <= number("tapes_mib") && number("tapes_held_mib") > 0.0, "{stdout}");
    let (status, _, stderr) = run("1 MiB");
    assert!(status != 0 && stderr.contains("the limit is 1 MiB"), "{stderr}");
    let (status, _, stderr) = run("2 GB");
    assert!(status == 2 && stderr.contains("is not a size of memory"), "{stderr}");
}

#[test]
fn bench_learner_reports_figures_that_fit_each_other_and_refuses_a_workload_that_is_none() {
    let sizes = ["--hidden", "64", "--layers", "2", "--items", "60", "--prompt-tokens", "9", "--groups", "3"];
    let arguments =
        [&["bench", "learner", "--format", "json", "--updates", "2", "--threads", "2"], &sizes[..]].concat();
    let (status, stdout, stderr) = riser(&arguments);
    assert_eq!(status, 0, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let number = |key: &str| figures[key].as_f64().unwrap();
    assert!(number("rows_per_group") < number("naive_rows_per_group") / 2.0);
    assert!((number("passes_gflops") / number("peak_gflops") - number("passes_share_of_peak")).abs() < 1e-9);
    // An update is more than its passes, and the passes take time.
    assert!(number("update_gflops") < number("passes_gflops") && number("update_gflops") > 0.0);
    let parts = figures["milliseconds"].as_object().unwrap();
    assert_eq!(parts.keys().collect::<Vec<_>>(), ["backward", "forest", "forward", "measure", "objective", "update"]);

    let (status, _, stderr) = riser(&["bench", "learner", "--workload", "nowhere"]);
    assert!(status != 0 && stderr.contains("nowhere"), "{stderr}");
    let (status, _, stderr) = riser(&["bench", "learner", "--hidden", "130"]);
    assert!(status == 2 && stderr.contains("hidden_size"), "{stderr}");
    let (status, ..) = riser(&["bench", "learner", "--updates", "0"]);
    assert_eq!(status, 2);
}
