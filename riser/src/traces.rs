//! Traces for an OpenTelemetry collector, if `OTEL_EXPORTER_OTLP_ENDPOINT` names one; `docs/traces.md` explains them.
//!
//! Spans wait in a bounded queue for a thread of their own; when the collector is away or slow they are dropped, and nobody
//! waits for it but the end of the program, for at most [`GOODBYE`].

use crate::failure::{Hint, Usage};
use anyhow::Context as _;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use riser_proto::trace::{self, TracePoint};
use std::time::Duration;
use tokio::runtime::Runtime;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Variables that name a collector; the first one that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Variables that name the process.
const NAMES: [&str; 2] = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];

/// How long one export may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long the end of the program may wait for the last spans.
const GOODBYE: Duration = Duration::from_secs(2);

/// Traces on their way to a collector; dropping it sends what is left.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    /// Of the connection to the collector.
    _runtime: Runtime,
}

/// Sends the traces of a process called `service` from now on, if a collector is named.
pub(crate) fn start(service: &str) -> anyhow::Result<Option<Traces>> {
    let named = ENDPOINTS.into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
    let Some((variable, endpoint)) = named.filter(|(_, endpoint)| !endpoint.is_empty()) else { return Ok(None) };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).thread_name("traces").enable_all().build();
    let runtime = runtime.context("cannot start the runtime of the traces")?;
    let entered = runtime.enter();
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(&endpoint).with_timeout(DEADLINE).build();
    drop(entered);
    let exporter = exporter
        .map_err(|error| Usage(format!("cannot send traces to `{variable}={endpoint}`: {error}")))
        .hint(|| "name a collector that takes OTLP over gRPC, as in http://127.0.0.1:4317".to_owned())?;
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if NAMES.iter().all(|name| std::env::var_os(name).is_none()) {
        resource = resource.with_service_name(service.to_owned());
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    trace::install(Box::new(Spans));
    Ok(Some(Traces { provider, _runtime: runtime }))
}

impl Traces {
    /// What spans are made with.
    pub(crate) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("riser")
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // A collector that is away has missed them.
        let _ = self.provider.shutdown_with_timeout(GOODBYE);
    }
}

/// The connection between `tracing` spans and points of traces.
struct Spans;

impl trace::Tracer for Spans {
    fn point(&self, span: &Span) -> Option<TracePoint> {
        let context = span.context();
        let context = context.span().span_context().clone();
        context.is_valid().then(|| TracePoint {
            trace: u128::from_be_bytes(context.trace_id().to_bytes()),
            span: u64::from_be_bytes(context.span_id().to_bytes()),
            sampled: context.is_sampled(),
        })
    }

    fn follow(&self, span: &Span, parent: TracePoint) {
        // A span that is not recorded has no parent.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote(parent)));
    }

    fn link(&self, span: &Span, cause: TracePoint) {
        span.add_link(remote(cause));
    }
}

fn remote(point: TracePoint) -> SpanContext {
    let flags = if point.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from(point.trace), SpanId::from(point.span));
    SpanContext::new(trace, span, flags, true, TraceState::default())
}
