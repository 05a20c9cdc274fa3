//! Traces of a cluster of processes at a collector that speaks OTLP: one trace leads from the coordinator's lease over the
//! worker to the learner, and a collector that is away or deaf costs a run nothing.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
#[path = "common/process.rs"]
mod process;

use common::{json, prepared, riser, success};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Text;
use opentelemetry_proto::tonic::trace::v1::Span;
use process::{LOST, Process};
use std::net::TcpListener;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const STAGES: &str = r#"
[sft]
steps = 2
rows_per_batch = 8
validate_every = 2
validation_rows = 10
checkpoint_every = 2
[train]
init = "sft"
steps = 6
workers = 2
groups_per_batch = 6
groups_per_lease = 2
evaluate_every = 6
evaluation_rows = 10
checkpoint_every = 6
[cluster]
coordinator.listen = "127.0.0.1:0"
learner.listen = "127.0.0.1:0"
heartbeat = 1
"#;

/// The program with its traces sent to `collector`.
fn traced(collector: &str, arguments: &[&str]) -> Command {
    let mut command = riser(world().0.path(), arguments);
    // Batches leave at once, so that the test need not wait for them.
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    command
}

/// Data, supervised model, and the digest of a run without traces; made once for all tests.
fn world() -> &'static (tempfile::TempDir, String) {
    static WORLD: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = prepared(STAGES);
        json(folder.path(), &["sft", "-c", "run.toml", "--out", "sft"]);
        let trained = json(folder.path(), &["train", "-c", "run.toml", "--out", "untraced"]);
        let digest = trained["digest"].as_str().unwrap().to_owned();
        (folder, digest)
    })
}

/// A span and the process it comes from.
struct Seen {
    service: String,
    span: Span,
}

struct Collector {
    seen: Sender<Seen>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
            let Some(Text::StringValue(service)) = name.value.unwrap().value else { panic!("service without a name") };
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let _ = self.seen.send(Seen { service: service.clone(), span });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a thread of its own: where it is, and what it sees.
fn collector() -> (String, Receiver<Seen>) {
    let (seen, spans) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entered = runtime.enter();
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = format!("http://{}", incoming.local_addr().unwrap());
    drop(entered);
    let service = TraceServiceServer::new(Collector { seen });
    std::thread::spawn(move || {
        runtime.block_on(Server::builder().add_service(service).serve_with_incoming(incoming)).unwrap();
    });
    (address, spans)
}

#[test]
fn a_trace_leads_from_the_coordinators_lease_over_the_worker_to_the_learners_step() {
    let (collector, spans) = collector();
    let start = |arguments: &[&str]| Process::start(traced(&collector, arguments));
    let mut coordinator = start(&["coordinator", "-c", "run.toml", "--out", "c"]);
    let line = coordinator.line("listens on ");
    let address = line.rsplit(' ').next().unwrap();
    let advertise = format!("cluster.coordinator.advertise={address}");
    let _learner = start(&["learner", "-c", "run.toml", "--out", "traced", "--set", &advertise]);
    let _worker = start(&["worker", "--coordinator", &format!("http://{address}")]);

    let mut all: Vec<Seen> = vec![];
    // The parent of a span by its name and the process it must come from, all in one trace.
    fn parent<'a>(all: &'a [Seen], child: &Span, service: &str, name: &str) -> Option<&'a Span> {
        let is_parent =
            |seen: &&Seen| seen.span.span_id == child.parent_span_id && seen.span.trace_id == child.trace_id;
        let found = all.iter().find(is_parent)?;
        assert_eq!((found.service.as_str(), found.span.name.as_str()), (service, name));
        Some(&found.span)
    }
    let whole = |all: &[Seen], step: &Span| {
        let links = |ingest: &&Seen| step.links.iter().any(|link| link.span_id == ingest.span.span_id);
        let ingest = &all.iter().find(links)?.span;
        assert_eq!(ingest.name, "ingest");
        let send = parent(all, ingest, "riser-worker", "send")?;
        let work = parent(all, send, "riser-worker", "work")?;
        let lease = parent(all, work, "riser-coordinator", "lease")?;
        assert!(lease.parent_span_id.is_empty(), "a lease begins a trace");
        let is_sample = |seen: &&Seen| seen.span.name == "sample" && seen.span.parent_span_id == work.span_id;
        all.iter().find(is_sample)?;
        Some(())
    };
    loop {
        let steps = all.iter().filter(|seen| seen.service == "riser-learner" && seen.span.name == "step");
        if steps.map(|seen| &seen.span).any(|step| whole(&all, step).is_some()) {
            break;
        }
        let seen = spans.recv_timeout(LOST);
        all.push(seen.unwrap_or_else(|_| {
            let names: Vec<_> = all.iter().map(|seen| (&seen.service, &seen.span.name)).collect();
            panic!("no whole trace in {names:?}")
        }));
    }
}

#[test]
fn a_collector_that_is_deaf_or_away_costs_a_run_nothing() {
    let (_, digest) = world();
    // Takes connections and never says a word.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    for (out, collector) in
        [("deaf", format!("http://{}", deaf.local_addr().unwrap())), ("away", "http://127.0.0.1:1".to_owned())]
    {
        let (trained, _) = success(traced(&collector, &["train", "-c", "run.toml", "--out", out]));
        assert_eq!(trained["digest"], digest.as_str(), "{out}");
    }
}

#[test]
fn an_endpoint_that_is_none_is_refused_by_name() {
    let output = traced("not an address", &["config", "show"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cannot send traces to `OTEL_EXPORTER_OTLP_ENDPOINT=not an address`"), "{stderr}");
}
