//! Who may call whom, over real connections with certificates: every call is open to the roles that it is for and to no other,
//! and nobody takes a server of another role for the one it looks for.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
#[path = "common/output.rs"]
mod output;
#[path = "common/process.rs"]
mod process;

use common::{json, prepared, riser};
use output::output;
use process::Process;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use riser_proto::access::{reason_of, role::Role};
use riser_proto::transport::MAX_MESSAGE_BYTES;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;

/// A run that lasts until the test ends.
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
groups_per_batch = 6
groups_per_lease = 2
[cluster]
security = "mtls"
certificates = "certs"
coordinator.listen = "127.0.0.1:0"
coordinator.metrics = "127.0.0.1:0"
learner.listen = "127.0.0.1:0"
heartbeat = 1
"#;

/// Every call and who may make it, written down a second time.
const CALLS: [(&str, &str, &[Role]); 13] = [
    ("coordinator", "riser.v1.Coordinator/Join", &[Role::Worker]),
    ("coordinator", "riser.v1.Coordinator/Leave", &[Role::Worker]),
    ("coordinator", "riser.v1.Coordinator/Lease", &[Role::Worker]),
    ("coordinator", "riser.v1.Coordinator/Renew", &[Role::Worker]),
    ("coordinator", "riser.v1.Coordinator/Complete", &[Role::Worker]),
    ("coordinator", "riser.v1.Coordinator/Locate", &[Role::Worker, Role::Learner]),
    ("coordinator", "riser.v1.Coordinator/Advance", &[Role::Learner]),
    ("coordinator", "riser.v1.Catalog/Describe", &[Role::Worker]),
    ("coordinator", "riser.v1.Catalog/Fetch", &[Role::Worker]),
    ("coordinator", "riser.v1.Watch/Status", &[Role::Watcher, Role::Operator]),
    ("learner", "riser.v1.Learner/SubmitGroups", &[Role::Worker]),
    ("learner", "riser.v1.Learner/SubscribePolicy", &[Role::Worker]),
    ("learner", "riser.v1.Operator/ChangeCatalog", &[Role::Operator]),
];

/// Data, supervised model and certificates, made once for all tests.
fn world() -> &'static Path {
    static WORLD: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = WORLD.get_or_init(|| {
        let folder = prepared(STAGES);
        json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
        json(folder.path(), &["certs", "certs"]);
        own_authority(&folder.path().join("old"), &|_| None);
        // A worker on the hosts of the coordinator and of the learner, and everybody else as it should be.
        let mixed_up = |name: &str| match name {
            "coordinator" => Some(Role::Worker),
            name => Role::ALL.into_iter().find(|role| role.name() == name),
        };
        own_authority(&folder.path().join("impostor"), &mixed_up);
        folder
    });
    folder.path()
}

/// Files of an authority that names roles as `role_of` says, and every certificate for this host.
fn own_authority(folder: &Path, role_of: &dyn Fn(&str) -> Option<Role>) {
    std::fs::create_dir(folder).unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for name in Role::ALL.map(Role::name) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "riser-worker".to_owned()]).unwrap();
        let role = role_of(name).map(|role| SanType::URI(role.uri().try_into().unwrap()));
        params.subject_alt_names.extend(role);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn start(arguments: &[&str]) -> Process {
    Process::start(riser(world(), arguments))
}

/// The flags of a process that shows the certificate of `role` from `folder`.
fn shows(folder: &str, role: &str) -> Vec<String> {
    [("ca", "ca.pem".to_owned()), ("cert", format!("{role}.pem")), ("key", format!("{role}.key"))]
        .map(|(flag, file)| format!("--{flag}={folder}/{file}"))
        .into()
}

/// A command against `coordinator` as `role`, with the certificates of `folder`.
fn run(command: &str, coordinator: &str, folder: &str, role: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let (url, shown) = (format!("https://{coordinator}"), shows(folder, role));
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    output(world(), &[&[command, "--coordinator", &url][..], &shown, more].concat())
}

fn coordinator(out: &str, settings: &[&str]) -> (Process, String) {
    let settings: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut process = start(&[&["coordinator", "-c", "run.toml", "--out", out][..], &settings].concat());
    let address = process.line("listens on ").rsplit(' ').next().unwrap().to_owned();
    (process, address)
}

/// A connection as `role` that takes any server of the authority.
fn connection(address: &str, role: Role) -> Channel {
    let pem = |name: String| std::fs::read(world().join("certs").join(name)).unwrap();
    let identity = Identity::from_pem(pem(format!("{role}.pem")), pem(format!("{role}.key")));
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem("ca.pem".to_owned()))).identity(identity);
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect_lazy()
}

/// Makes a call with an empty message, and has the answer or nothing of it.
async fn call(channel: Channel, path: &str) -> Result<(), Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path = format!("/{path}").parse().unwrap();
    let call = client.server_streaming(Request::new(()), path, ProstCodec::<(), ()>::default());
    tokio::time::timeout(Duration::from_secs(120), call).await.unwrap().map(drop)
}

#[test]
fn every_call_is_open_to_the_roles_that_it_is_for_and_to_no_other() {
    let (_coordinator, address) = coordinator("all-coordinator", &[]);
    let advertise = format!("cluster.coordinator.advertise={address}");
    let mut learner = start(&["learner", "-c", "run.toml", "--out", "all", "--set", &advertise]);
    let line = learner.line("listens on ");
    let learner_address = line.rsplit(' ').next().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (server, path, callers) in CALLS {
        let to = if server == "learner" { learner_address } else { &address };
        for role in Role::ALL {
            let answer = runtime.block_on(async { call(connection(to, role), path).await });
            let refused = answer.as_ref().err().filter(|status| reason_of(status).is_some());
            assert_eq!(refused.is_none(), callers.contains(&role), "{path} as {role}: {answer:?}");
            if let Some(status) = refused {
                let message = status.message();
                assert_eq!(status.code(), Code::PermissionDenied, "{message}");
                assert!(message.starts_with("unnamed caller at 127.0.0.1:"), "{message}");
                let article = if role == Role::Operator { "an" } else { "a" };
                let shown = format!(" shows a certificate for {article} {role}, ");
                let call = path.strip_prefix("riser.v1.").unwrap();
                assert!(message.contains(&shown) && message.contains(&format!("{call} is for a")), "{message}");
            }
        }
    }
    // What the learner has refused is told with its next report.
    loop {
        let (status, stdout, stderr) = run("status", &address, "certs", "watcher", &["--format", "json"]);
        assert_eq!(status, Some(0), "{stderr}");
        let told = parsed(&stdout)["troubles"].as_array().unwrap().clone();
        let of = |server: &str| told.iter().any(|trouble| trouble["what"].as_str().unwrap().contains(server));
        assert!(of("Coordinator/") || of("Watch/") || of("Catalog/"), "{told:?}");
        if of("Operator/ChangeCatalog is for an operator") {
            break;
        }
    }
}

#[test]
fn whoever_is_refused_is_told_why_with_a_remedy_and_shown_to_whoever_watches() {
    let (process, address) = coordinator("watched", &[]);
    let metrics = process.seen.iter().find_map(|line| line.split_once("metrics at http://")).unwrap().1.to_owned();
    let (status, stdout, stderr) = run("status", &address, "certs", "watcher", &["--format", "json"]);
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!(parsed(&stdout)["troubles"], serde_json::json!([]), "{stdout}");
    for (command, role, needed) in [
        ("status", "worker", "Watch/Status is for a watcher"),
        ("worker", "watcher", "Coordinator/Join is for a worker"),
    ] {
        let more: &[&str] = if command == "worker" { &["--no-cache"] } else { &[] };
        let (status, _, stderr) = run(command, &address, "certs", role, more);
        assert_eq!(status, Some(1), "{stderr}");
        assert!(stderr.contains(&format!("shows a certificate for a {role}, {needed}")), "{stderr}");
        assert!(stderr.contains("hint: `riser certs` writes a certificate for each role"), "{stderr}");
    }
    // More than any message may have.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let large = runtime.block_on(async {
        let mut client = Grpc::new(connection(&address, Role::Watcher));
        client.ready().await.unwrap();
        let (message, path) = (vec![0_u8; MAX_MESSAGE_BYTES + 1], "/riser.v1.Watch/Status".parse().unwrap());
        client.unary(Request::new(message), path, ProstCodec::<Vec<u8>, ()>::default()).await.map(drop)
    });
    assert_eq!(large.unwrap_err().code(), Code::OutOfRange);
    let (_, stdout, _) = run("status", &address, "certs", "watcher", &["--format", "json"]);
    let told = parsed(&stdout);
    // Both came from one address. The last is the first.
    let what = told["troubles"][0]["what"].as_str().unwrap();
    assert!(what.starts_with("refused: ") && what.contains("message length too large"), "{told}");
    let what = told["troubles"][1]["what"].as_str().unwrap();
    assert!(what.starts_with("refused 2 times: shows a certificate for a watcher, "), "{told}");
    assert!(told["troubles"][1]["who"].as_str().unwrap().starts_with("unnamed caller at 127.0.0.1:"), "{told}");
    let page = get(metrics.strip_suffix("/metrics").unwrap());
    assert!(page.contains("riser_coordinator_refused_calls_total{reason=\"role\"} 2"), "{page}");
    assert!(page.contains("riser_coordinator_refused_calls_total{reason=\"size\"} 1"), "{page}");
    assert!(page.contains("riser_coordinator_refused_calls_total{reason=\"token\"} 0"), "{page}");
}

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn get(address: &str) -> String {
    use std::io::{Read, Write};
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    write!(connection, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_worker_on_the_coordinators_host_is_not_taken_for_the_coordinator() {
    let (_process, address) = coordinator("impostor-coordinator", &["cluster.certificates=impostor"]);
    for (command, role) in [("worker", "worker"), ("status", "watcher")] {
        let more: &[&str] = if command == "worker" { &["--no-cache"] } else { &[] };
        let (status, _, stderr) = run(command, &address, "impostor", role, more);
        assert_eq!(status, Some(1), "{stderr}");
        let said = format!("{address} shows a certificate for a worker, a coordinator was expected there");
        assert!(stderr.contains(&said) && stderr.contains("\nhint: "), "{stderr}");
    }
}

#[test]
fn certificates_without_roles_are_refused_at_both_ends_unless_that_is_asked_for() {
    let (_strict, address) = coordinator("strict", &["cluster.certificates=old"]);
    let (status, _, stderr) = run("status", &address, "old", "watcher", &[]);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("shows a certificate without a role, a coordinator was expected there"), "{stderr}");
    assert!(
        stderr.contains("older certificates name no role") && stderr.contains("certificates_without_roles"),
        "{stderr}"
    );
    let (status, _, stderr) = run("status", &address, "old", "watcher", &["--certificates-without-roles"]);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("shows a certificate without a role, Watch/Status is for a watcher"), "{stderr}");

    let settings = ["cluster.certificates=old", "cluster.certificates_without_roles=true"];
    let (_lax, address) = coordinator("lax", &settings);
    let (status, _, stderr) = run("status", &address, "old", "watcher", &["--certificates-without-roles"]);
    assert_eq!(status, Some(0), "{stderr}");
}
