//! Watching a run from outside: the figures that are documented are the ones that are shown, and the coordinator says how the
//! run stands. Every wait is for an answer or for a line of output.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
#[path = "common/output.rs"]
mod output;
#[path = "common/process.rs"]
mod process;

use common::{json, prepared, riser};
use output::output;
use process::Process;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::OnceLock;

/// A run that lasts until it has been watched.
const STAGES: &str = r#"
[sft]
steps = 2
rows_per_batch = 8
validate_every = 2
validation_rows = 10
checkpoint_every = 2
[train]
init = "sft"
steps = 100000
workers = 2
groups_per_batch = 6
groups_per_lease = 2
evaluate_every = 4
evaluation_rows = 10
checkpoint_every = 4
[cluster]
security = "token"
token_file = "token"
coordinator.listen = "127.0.0.1:0"
coordinator.metrics = "127.0.0.1:0"
learner.listen = "127.0.0.1:0"
learner.metrics = "127.0.0.1:0"
lease_timeout = 5
heartbeat = 1
"#;

/// Data and supervised model, made once for all tests.
fn world() -> &'static Path {
    static WORLD: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = WORLD.get_or_init(|| {
        let folder = prepared(STAGES);
        std::fs::write(folder.path().join("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
        json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
        folder
    });
    folder.path()
}

/// Starts a process in the folder of the tests.
fn start(arguments: &[&str]) -> Process {
    Process::start(riser(world(), arguments))
}

/// The rest of the first line that contains `text`, after it.
fn after(process: &mut Process, text: &str) -> String {
    process.line(text).split_once(text).unwrap().1.trim().to_owned()
}

/// Status line and body of an answer over HTTP.
fn get(address: &str, path: &str) -> (String, String) {
    get_with(address, path, "")
}

/// The same with further headers, each with its end of line.
fn get_with(address: &str, path: &str, headers: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Names and types of the metrics on a page.
fn shown(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split_once(' ').unwrap()).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Names and types of the metrics in the table of the documentation.
fn documented() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `riser_"));
    let row = |row: &str| {
        let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        (format!("riser_{}", cells.next().unwrap()), cells.next().unwrap())
    };
    rows.map(row).collect()
}

#[test]
fn the_metrics_of_a_run_are_exactly_the_documented_ones() {
    let mut run = start(&["train", "-c", "run.toml", "--out", "figures", "--metrics", "127.0.0.1:0"]);
    let address = after(&mut run, "metrics at http://").strip_suffix("/metrics").unwrap().to_owned();
    let documented = documented();
    assert!(documented.len() > 30, "{documented:?}");
    // Every figure of the run's own doing is there as soon as there has been an evaluation and a checkpoint.
    let page = loop {
        let (status, page) = get(&address, "/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let is_whole = shown(&page).contains_key("riser_learner_evaluation")
            && !page.contains("riser_learner_checkpoint_version 0");
        if is_whole {
            break page;
        }
    };
    assert_eq!(shown(&page), documented);
    let value = |series: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
    };
    assert_eq!(value("riser_coordinator_workers"), 2.0);
    let trained = value("riser_learner_groups_total{outcome=\"trained\"}");
    assert_eq!(trained, 6.0 * value("riser_learner_steps_total"));
    assert!(value("riser_learner_checkpoint_version") >= 4.0);
    assert!(value("riser_worker_groups_total") >= trained);
    assert!(value("riser_worker_sample_seconds_count") >= trained / 2.0);
    assert!((0.0..=1.0).contains(&value("riser_learner_evaluation{metric=\"HR@10\"}")));
    assert!(value("riser_learner_item_entropy_nats") > 0.0);
    assert_eq!(page.matches("riser_info{role=").count(), 3, "{page}");
    assert_eq!(get(&address, "/").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn metrics_with_a_token_are_shown_to_whoever_sends_it_as_prometheus_does_and_to_nobody_else() {
    let settings = ["--set", "cluster.metrics_token_file=token"];
    let mut process = start(&[&["coordinator", "-c", "run.toml", "--out", "asks"][..], &settings].concat());
    let address = after(&mut process, "metrics at http://").strip_suffix("/metrics").unwrap().to_owned();
    process.line("listens on ");
    let secret = "0123456789abcdef0123456789abcdef";
    for (said, is_right) in
        [(format!("Bearer {secret}"), true), (format!("Bearer {secret}0"), false), (secret.to_owned(), false)]
    {
        let (status, page) = get_with(&address, "/metrics", &format!("authorization: {said}\r\n"));
        assert_eq!(status, if is_right { "HTTP/1.1 200 OK" } else { "HTTP/1.1 401 Unauthorized" });
        assert_eq!(page.contains("riser_info{role=\"coordinator\""), is_right, "{page}");
    }
    assert_eq!(get(&address, "/metrics").0, "HTTP/1.1 401 Unauthorized");
}

#[test]
fn an_address_that_is_taken_ends_the_command_before_its_work() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, stderr) = output(world(), &["train", "-c", "run.toml", "--out", "never", "--metrics", &address]);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.starts_with(&format!("error: cannot show metrics at `--metrics` {address}: ")), "{stderr}");
    assert!(!world().join("never").exists());
    let key = format!("cluster.coordinator.metrics={address}");
    let (status, _, stderr) = output(world(), &["coordinator", "-c", "run.toml", "--out", "never", "--set", &key]);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(
        stderr.contains("hint: choose a free port and an address of this machine for `cluster.coordinator.metrics`")
    );
}

#[test]
fn a_coordinator_says_how_its_run_stands_to_whoever_has_the_token() {
    let mut coordinator = start(&["coordinator", "-c", "run.toml", "--out", "watched-coordinator"]);
    let metrics = after(&mut coordinator, "metrics at http://").strip_suffix("/metrics").unwrap().to_owned();
    let address = after(&mut coordinator, "listens on ");
    let url = format!("http://{address}");
    let status = |more: &[&str]| output(world(), &[&["status", "--coordinator", &url][..], more].concat());
    let json = || -> Value {
        let (code, stdout, stderr) = status(&["--token-file", "token", "--format", "json"]);
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    // Before anybody else is there.
    let alone = json();
    assert_eq!((&alone["version"], &alone["learner"]), (&Value::Null, &Value::Null), "{alone}");
    assert_eq!((&alone["total_steps"], &alone["num_workers"]), (&100_000.into(), &0.into()), "{alone}");
    let (code, _, stderr) = status(&[]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("this run asks for a join token"), "{stderr}");

    let advertise = format!("cluster.coordinator.advertise={address}");
    let _learner = start(&["learner", "-c", "run.toml", "--out", "watched", "--set", &advertise]);
    let worker = ["worker", "--coordinator", &url, "--token-file", "token"];
    let _workers = [start(&worker), start(&worker)];
    // Until the run has been going for a while.
    let watched = loop {
        let status = json();
        let is_under_way = status["throughput"]["steps_per_second"].as_f64().is_some_and(|speed| speed > 0.0)
            && status["num_workers"] == 2
            && status["bottleneck"]["waited_for_learner"].is_f64();
        if is_under_way {
            break status;
        }
    };
    let workers = watched["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2, "{watched}");
    for worker in workers {
        assert!(worker["name"].as_str().unwrap().contains('/'), "{worker}");
        assert!(worker["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{worker}");
        assert!(worker["lag"].as_u64().unwrap() <= 2, "{worker}");
    }
    assert_eq!(watched["learner"]["incarnation"], 1, "{watched}");
    assert!(watched["learner"]["stage"].is_string(), "{watched}");
    assert!(watched["eta_seconds"].as_f64().unwrap() > 0.0);
    let (code, text, _) = status(&["--token-file", "token"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("of 100000, about ") && text.contains("worker 2 "), "{text}");
    let page = get(&metrics, "/metrics").1;
    assert!(page.contains("riser_coordinator_workers 2"), "{page}");
    let run = &watched["run"].as_str().unwrap()[..8];
    assert!(page.contains(&format!("run=\"{run}")), "{page}");
}

#[test]
fn without_a_terminal_top_points_to_status() {
    let (status, _, stderr) = output(world(), &["top", "--coordinator", "http://127.0.0.1:1"]);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("needs a terminal") && stderr.contains("hint: `riser status`"), "{stderr}");
}

#[test]
fn a_coordinator_that_is_not_there_is_said_so() {
    let (status, _, stderr) = output(world(), &["status", "--coordinator", "http://127.0.0.1:1"]);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.starts_with("error: coordinator at 127.0.0.1:1: "), "{stderr}");
}
