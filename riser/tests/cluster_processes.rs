//! The roles as processes of their own, over loopback: whatever happens to them, the run ends with the policy of the embedded
//! cluster. Nothing here waits for time to pass; every wait is for a line of output or for the end of a process.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
#[path = "common/process.rs"]
mod process;

use common::{json, prepared, riser};
use process::{LOST, Process};
use riser_core::data_folder::DataFolder;
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const STAGES: &str = r#"
[sft]
steps = 4
rows_per_batch = 8
validate_every = 4
validation_rows = 10
checkpoint_every = 4
[train]
init = "sft"
steps = 24
workers = 2
groups_per_batch = 6
groups_per_lease = 2
evaluate_every = 12
evaluation_rows = 10
checkpoint_every = 4
[cluster]
coordinator.listen = "127.0.0.1:0"
learner.listen = "127.0.0.1:0"
lease_timeout = 5
patience = 60
heartbeat = 1
"#;

/// Data, supervised model, and the digest that the embedded cluster ends with; made once for all tests.
fn world() -> &'static (tempfile::TempDir, String) {
    static WORLD: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = prepared(STAGES);
        std::fs::write(folder.path().join("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
        std::fs::write(folder.path().join("wrong"), "0123456789abcdef0123456789abcdee\n").unwrap();
        std::fs::write(folder.path().join("learner-token"), "fedcba9876543210fedcba9876543210\n").unwrap();
        json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
        let trained = json(folder.path(), &["train", "-c", "run.toml", "--out", "embedded"]);
        let digest = trained["digest"].as_str().unwrap().to_owned();
        (folder, digest)
    })
}

/// Starts a process in the folder of the tests.
fn start(arguments: &[&str]) -> Process {
    Process::start(riser(world().0.path(), arguments))
}

impl Process {
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Exit status, standard output and all lines of standard error, once the process has ended by itself.
    fn end(mut self) -> (Option<i32>, String, Vec<String>) {
        // Standard error closes when the process ends.
        loop {
            match self.lines.recv_timeout(LOST) {
                Ok(line) => self.seen.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("no end after {:#?}", self.seen),
            }
        }
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        (self.child.wait().unwrap().code(), stdout, std::mem::take(&mut self.seen))
    }

    /// Standard output as JSON of a process that must end with status 0.
    fn success(self) -> Value {
        let (status, stdout, lines) = self.end();
        assert_eq!(status, Some(0), "{lines:#?}");
        serde_json::from_str(&stdout).unwrap()
    }
}

/// A run on its way: settings of all its processes, and where its coordinator listens.
struct Cluster {
    name: &'static str,
    settings: Vec<&'static str>,
    credentials: Vec<&'static str>,
    coordinator: Process,
    address: String,
}

impl Cluster {
    /// Starts the coordinator; `settings` go to coordinator and learner, `credentials` to workers.
    fn start(name: &'static str, settings: &[&'static str], credentials: &[&'static str]) -> Self {
        let settings: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let (coordinator, address) = Self::coordinator(name, &settings);
        Self { name, settings, credentials: credentials.to_vec(), coordinator, address }
    }

    /// Starts a coordinator; the second value is where it listens.
    fn coordinator(name: &str, settings: &[&str]) -> (Process, String) {
        let out = format!("{name}-coordinator");
        let arguments = [&["coordinator", "-c", "run.toml", "--out", &out], settings].concat();
        let mut coordinator = start(&arguments);
        let line = coordinator.line("listens on 127.0.0.1:");
        (coordinator, line.rsplit(' ').next().unwrap().to_owned())
    }

    fn learner(&self) -> Process {
        let address = format!("cluster.coordinator.advertise={}", self.address);
        let arguments = ["learner", "-c", "run.toml", "--out", self.name, "--set", &address];
        start(&[&arguments, &self.settings[..]].concat())
    }

    fn worker(&self) -> Process {
        self.worker_with(&self.credentials)
    }

    fn worker_with(&self, credentials: &[&str]) -> Process {
        let scheme = if credentials.contains(&"--ca") { "https" } else { "http" };
        let (url, cache) = (format!("{scheme}://{}", self.address), format!("{}-cache", self.name));
        let arguments = ["worker", "--patience", "60", "--coordinator", &url, "--cache", &cache];
        start(&[&arguments, credentials].concat())
    }

    /// The end of the run: everybody ends by itself, and the learner with the policy of the embedded cluster. What the
    /// workers say.
    fn ends_as_embedded(self, learner: Process, workers: impl IntoIterator<Item = Process>) -> Vec<Value> {
        assert_eq!(learner.success()["digest"], world().1.as_str());
        let workers: Vec<Value> = workers.into_iter().map(Process::success).collect();
        assert!(workers.iter().all(|worker| worker["groups"].is_u64()), "{workers:?}");
        let counts = self.coordinator.success();
        assert!(counts["granted"].as_u64().unwrap() >= 72, "{counts}");
        workers
    }
}

/// Exit status and standard output of a probe.
fn health(arguments: &[&str]) -> (Option<i32>, String) {
    let output = riser(world().0.path(), &[&["health"], arguments].concat()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn certs(name: &str) -> PathBuf {
    let folder = world().0.path();
    json(folder, &["certs", name]);
    folder.join(name)
}

/// The audit of both logs of a run, in which nothing is broken.
fn audit_of_both(coordinator: &str, learner: &str) -> Value {
    let audit = json(world().0.path(), &["audit", coordinator, learner]);
    assert_eq!((&audit["clean"], &audit["violations"]), (&true.into(), &serde_json::json!([])), "{audit}");
    assert_eq!(audit["version"], 24, "{audit}");
    audit
}

#[test]
fn processes_with_a_token_end_with_the_policy_of_the_embedded_cluster_and_a_wrong_token_is_refused() {
    let settings = ["cluster.security=token", "cluster.token_file=token", "cluster.learner_token_file=learner-token"];
    let cluster = Cluster::start("shared-secret", &settings, &["--token-file", "token"]);
    for (credentials, message) in [
        (&["--token-file", "wrong"][..], "shows a token that is not the one of this run"),
        (&[], "this run asks for a join token"),
        (&["--token-file", "learner-token"], "shows the token of a learner, Coordinator/Join is for a worker"),
    ] {
        let (status, _, lines) = cluster.worker_with(credentials).end();
        assert_eq!(status, Some(1), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("error: ") && line.contains(message)), "{lines:#?}");
    }
    // Workers may come before the learner.
    let workers = [cluster.worker(), cluster.worker()];
    let learner = cluster.learner();
    cluster.ends_as_embedded(learner, workers);
    // Each has a log of its own, and both together prove what neither can.
    let both = audit_of_both("shared-secret-coordinator/coordinator", "shared-secret");
    assert_eq!(both["unknown"], serde_json::json!([]), "{both}");
    assert_eq!(both["account"]["trained"], 6 * 24, "{both}");
    assert_eq!(both["checked"].as_array().unwrap().len(), 12, "{both}");
    let of_two_runs =
        riser(world().0.path(), &["audit", "shared-secret-coordinator/coordinator", "sft"]).output().unwrap();
    assert_eq!(of_two_runs.status.code(), Some(2), "{of_two_runs:?}");
    for (out, num_checked) in [("shared-secret", 5), ("shared-secret-coordinator/coordinator", 1)] {
        let audit = json(world().0.path(), &["audit", out]);
        assert_eq!((&audit["clean"], &audit["account"]), (&true.into(), &Value::Null), "{audit}");
        assert_eq!(audit["checked"].as_array().unwrap().len(), num_checked, "{audit}");
    }
}

#[test]
fn processes_with_certificates_end_with_the_policy_of_the_embedded_cluster_and_a_wrong_authority_is_refused() {
    certs("certs");
    certs("others");
    let settings = ["cluster.security=mtls", "cluster.certificates=certs"];
    let own = ["--ca", "certs/ca.pem", "--cert", "certs/worker.pem", "--key", "certs/worker.key"];
    let cluster = Cluster::start("mtls", &settings, &own);
    let wrong = ["--ca", "others/ca.pem", "--cert", "others/worker.pem", "--key", "others/worker.key"];
    let (status, _, lines) = cluster.worker_with(&wrong).end();
    assert_eq!(status, Some(1), "{lines:#?}");
    let refused =
        |line: &String| line.starts_with("error: coordinator at") && line.contains("invalid peer certificate");
    assert!(lines.iter().any(refused), "{lines:#?}");
    let url = format!("https://{}", cluster.address);
    assert_eq!(health(&[&[&url[..]], &own[..]].concat()), (Some(0), "serving\n".to_owned()));
    assert_eq!(health(&[&[&url[..]], &wrong[..]].concat()), (Some(1), String::new()));
    let learner = cluster.learner();
    let workers = [cluster.worker(), cluster.worker()];
    cluster.ends_as_embedded(learner, workers);
}

#[test]
fn a_learner_that_no_coordinator_knows_of_answers_probes_and_is_not_ready() {
    // Nobody listens there.
    let nowhere = "cluster.coordinator.advertise=127.0.0.1:1";
    let mut lonely = start(&["learner", "-c", "run.toml", "--out", "lonely", "--set", nowhere]);
    let line = lonely.line("listens on 127.0.0.1:");
    let (_, rest) = line.split_once("listens on ").unwrap();
    let url = format!("http://{}", rest.split(',').next().unwrap());
    assert_eq!(health(&[&url, "--timeout", "60"]), (Some(1), "not serving yet\n".to_owned()));
    assert_eq!(health(&[&url, "--timeout", "60", "--alive"]), (Some(0), "not serving yet\n".to_owned()));
    drop(lonely);
    assert_eq!(health(&[&url, "--alive"]), (Some(1), String::new()));
}

#[test]
fn a_worker_that_is_asked_to_leave_finishes_its_lease_and_the_next_one_finds_the_catalog_in_the_cache() {
    let cluster = Cluster::start("leave", &[], &[]);
    let mut learner = cluster.learner();
    let first = cluster.worker();
    learner.line("     3  ");
    first.signal("TERM");
    let first = first.success();
    assert!(first["leases"].as_u64().unwrap() >= 3);
    let tree = std::fs::metadata(world().0.path().join("data/prefix_tree.bin")).unwrap().len();
    assert_eq!(first["catalog_bytes"], tree);
    let second = cluster.worker();
    let second = cluster.ends_as_embedded(learner, [second]);
    assert_eq!(second[0]["catalog_bytes"], 0);
}

#[test]
fn a_worker_that_is_told_the_store_takes_the_catalog_from_there() {
    let store = format!("file://{}/catalog-store", world().0.path().display());
    let setting: &'static str = format!("store.url={store}").leak();
    let mut cluster = Cluster::start("stored", &[setting], &[]);
    cluster.coordinator.line("is in the store");
    let learner = cluster.learner();
    let worker = cluster.worker_with(&["--store", &store]);
    let workers = cluster.ends_as_embedded(learner, [worker]);
    assert_eq!(workers[0]["catalog_bytes"], 0);
}

#[test]
fn workers_hand_policies_on_over_certificates_and_one_that_is_killed_is_done_without() {
    certs("relay-certs");
    let settings = ["cluster.security=mtls", "cluster.certificates=relay-certs", "cluster.fan_out=1"];
    let own = ["--ca", "relay-certs/ca.pem", "--cert", "relay-certs/worker.pem", "--key", "relay-certs/worker.key"];
    let relay = [&own[..], &["--relay", "127.0.0.1:0"]].concat();
    let cluster = Cluster::start("relayed", &settings, &own);
    let mut learner = cluster.learner();
    // One after the other, so that it is known who is below whom.
    let mut first = cluster.worker_with(&relay);
    first.line("worker 1 of run");
    let mut second = cluster.worker_with(&relay);
    second.line("policies come from the worker at 127.0.0.1:");
    let mut third = cluster.worker();
    third.line("policies come from the worker at 127.0.0.1:");
    learner.line("     6  ");
    first.signal("KILL");
    assert_eq!(first.end().0, None);
    cluster.ends_as_embedded(learner, [second, third]);
}

#[test]
fn a_relay_that_strangers_could_reach_is_refused_with_a_remedy() {
    let exposed = ["worker", "--coordinator", "http://127.0.0.1:1", "--relay", "0.0.0.0:0", "--no-cache"];
    let (status, _, lines) = start(&exposed).end();
    assert_eq!(status, Some(2), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("`--relay 0.0.0.0:0` can be reached from other machines")),
        "{lines:#?}"
    );
    let (status, _, lines) = start(&[&exposed[..], &["--plaintext"]].concat()).end();
    assert_eq!(status, Some(2), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("does not say where other workers reach it")), "{lines:#?}");
}

#[test]
fn a_learner_that_is_killed_and_started_again_elsewhere_changes_nothing() {
    let cluster = Cluster::start("killed", &[], &[]);
    let mut learner = cluster.learner();
    let workers = [cluster.worker(), cluster.worker()];
    learner.line("     6  ");
    learner.signal("KILL");
    assert_eq!(learner.end().0, None);
    let mut learner = cluster.learner();
    // From the newest checkpoint, of which it depends on the disk whether it is there yet.
    learner.line("learner 2 of run");
    cluster.ends_as_embedded(learner, workers);
    // What the first learner had not written down when it was killed may be unknown.
    audit_of_both("killed-coordinator/coordinator", "killed");
}

#[test]
fn a_learner_that_is_lost_with_its_folder_is_replaced_from_the_store_by_one_that_counts_as_later() {
    let store = format!("store.url=file://{}/store", world().0.path().display());
    let mut cluster = Cluster::start("lost", &[store.leak()], &[]);
    let mut learner = cluster.learner();
    let workers = [cluster.worker(), cluster.worker()];
    learner.line("     9  ");
    learner.signal("KILL");
    assert_eq!(learner.end().0, None);
    cluster.name = "elsewhere";
    let mut learner = cluster.learner();
    learner.line("learner 2 of run");
    cluster.ends_as_embedded(learner, workers);
}

#[test]
fn a_coordinator_that_is_killed_and_started_again_stops_nobody() {
    let mut cluster = Cluster::start("rebooted", &[], &[]);
    let mut learner = cluster.learner();
    let workers = [cluster.worker(), cluster.worker()];
    learner.line("     6  ");
    cluster.coordinator.signal("KILL");
    let listen = format!("cluster.coordinator.listen={}", cluster.address);
    let (second, address) = Cluster::coordinator(cluster.name, &["--set", &listen]);
    assert_eq!(address, cluster.address);
    let first = std::mem::replace(&mut cluster.coordinator, second);
    assert_eq!(first.end().0, None);
    assert_eq!(learner.success()["digest"], world().1.as_str());
    for worker in workers {
        assert!(worker.success()["groups"].is_u64());
    }
    assert!(cluster.coordinator.success()["granted"].as_u64().unwrap() > 0);
    audit_of_both("rebooted-coordinator/coordinator", "rebooted");
    let audit = json(world().0.path(), &["audit", "rebooted-coordinator/coordinator"]);
    assert_eq!(
        (&audit["clean"], &audit["checked"]),
        (&true.into(), &serde_json::json!(["a lease is granted once and ends once"]))
    );
}

#[test]
fn a_run_that_has_ended_can_be_asked_again_at_either_end_and_a_worker_of_another_run_is_refused_by_name() {
    // The embedded run's folder is a learner's folder as well: it has ended, and says so to the coordinator.
    let mut cluster = Cluster::start("again", &[], &[]);
    cluster.name = "embedded";
    let other = format!("cluster.coordinator.advertise={}", cluster.address);
    let (status, _, lines) =
        start(&["learner", "-c", "run.toml", "--set", &other, "--set", "seed=8", "--out", "other"]).end();
    assert_eq!(status, Some(1), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("belongs to run")), "{lines:#?}");
    assert_eq!(cluster.learner().success()["digest"], world().1.as_str());
    let Cluster { coordinator, .. } = cluster;
    assert_eq!(coordinator.success()["granted"], 0);
    // Its log says so, and a coordinator that finds it there waits for no learner.
    let (again, _) = Cluster::coordinator("again", &[]);
    assert_eq!(again.success()["granted"], 0);
}

#[test]
fn plaintext_beyond_loopback_is_refused_with_a_remedy() {
    let exposed =
        ["coordinator", "-c", "run.toml", "--out", "exposed", "--set", "cluster.coordinator.listen=0.0.0.0:0"];
    let (status, _, lines) = start(&exposed).end();
    assert_eq!(status, Some(2), "{lines:#?}");
    assert!(lines[0].contains("can be reached from other machines"), "{lines:#?}");
    assert!(lines.last().unwrap().contains("riser certs"), "{lines:#?}");
    let (status, _, lines) = start(&["worker", "--no-cache", "--coordinator", "http://192.0.2.1:7470"]).end();
    assert_eq!(status, Some(2), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("192.0.2.1:7470 is another machine")), "{lines:#?}");
}

/// A data folder with the run's tokenizer, in which three items went and one came.
fn next_data() -> &'static str {
    static NEXT: OnceLock<()> = OnceLock::new();
    NEXT.get_or_init(|| {
        let folder = world().0.path();
        let data = DataFolder::open(&folder.join("data")).unwrap();
        let mut items = String::from("id,title\n");
        for item in data.dataset().items().iter().skip(3) {
            items += &format!("{},\"{}\"\n", item.id, item.title);
        }
        items += "newcomer,\"Something that was never sold before\"\n";
        let mut log = String::from("user,item,time\n");
        for (time, item) in data.dataset().items().iter().cycle().take(240).enumerate() {
            log += &format!("{},{},{time}\n", time / 12, item.id);
        }
        std::fs::write(folder.join("items.csv"), items).unwrap();
        std::fs::write(folder.join("log.csv"), log).unwrap();
        let source = ["prepare", "interactions", "log.csv", "items.csv", "next", "--time-column", "time"];
        let alike = ["--tokenizer", "data", "--bad-records", "drop", "--min-interactions", "0"];
        json(folder, &[&source[..], &alike].concat());
    });
    "next"
}

#[test]
fn a_run_whose_catalog_changes_on_the_way_ends_with_the_same_policy_whoever_dies_around_it() {
    let next = next_data();
    let digests = ["changed", "changed-and-killed"].map(|name| {
        let mut cluster = Cluster::start(name, &[], &[]);
        let mut learner = cluster.learner();
        let workers = [cluster.worker(), cluster.worker()];
        learner.line("     2  ");
        let url = format!("http://{}", cluster.address);
        let update = |step: &str| {
            let arguments = ["catalog", "update", next, "--from-step", step, "--coordinator", &url];
            riser(world().0.path(), &arguments)
        };
        let (changed, _) = common::success(update("14"));
        assert_eq!((&changed["from_step"], &changed["added"], &changed["removed"]), (&14.into(), &1.into(), &3.into()));
        let again = update("20").output().unwrap();
        let said = String::from_utf8(again.stderr).unwrap();
        assert_eq!(again.status.code(), Some(1));
        assert!(said.contains("the run has catalog") && said.contains("already, from batch 13"), "{said}");
        if name == "changed-and-killed" {
            // Once before the change has begun, and its checkpoint; once after.
            learner.signal("KILL");
            assert_eq!(learner.end().0, None);
            cluster.coordinator.signal("KILL");
            let listen = format!("cluster.coordinator.listen={}", cluster.address);
            let (second, _) = Cluster::coordinator(cluster.name, &["--set", &listen]);
            let first = std::mem::replace(&mut cluster.coordinator, second);
            assert_eq!(first.end().0, None);
            learner = cluster.learner();
            learner.line("    17  ");
            learner.signal("KILL");
            assert_eq!(learner.end().0, None);
            learner = cluster.learner();
        }
        let digest = learner.success()["digest"].as_str().unwrap().to_owned();
        for worker in workers {
            assert!(worker.success()["groups"].is_u64());
        }
        cluster.coordinator.success();
        let audit = json(world().0.path(), &["audit", name]);
        assert_eq!(audit["clean"], true, "{audit}");
        digest
    });
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], world().1);
}
