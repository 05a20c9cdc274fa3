//! Figures for Prometheus at `http://ADDRESS/metrics`, if they are asked for; `docs/metrics.md` explains them.
//!
//! The roles record what they decide, whether anybody reads it or not; here it is kept and shown. The server has a thread of
//! its own, so that neither waits for the other.

use crate::failure::{Hint, Usage};
use crate::output;
use crate::processes::credentials;
use anyhow::{Context, anyhow};
use axum::http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use riser_core::digest::Digest;
use riser_proto::access::Token;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

/// Upper bounds of the buckets of every histogram, in seconds.
const BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// How often what was recorded is put into buckets, so that it does not pile up while nobody reads it.
const UPKEEP: Duration = Duration::from_secs(5);

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Environment variable with the token that the page asks for.
const TOKEN_VARIABLE: &str = "RISER_METRICS_TOKEN";

/// Shows figures at `address` from now on until the process ends; `asked_by` is the key or flag that has the address. The page
/// asks for the token in `token_file` or in the environment, if there is one.
pub(crate) fn open(address: Option<SocketAddr>, asked_by: &str, token_file: Option<&Path>) -> anyhow::Result<()> {
    let Some(address) = address else { return Ok(()) };
    let token = credentials::token(token_file, TOKEN_VARIABLE)?;
    let listener = TcpListener::bind(address)
        .map_err(|error| Usage(format!("cannot show metrics at `{asked_by}` {address}: {error}")))
        .hint(|| format!("choose a free port and an address of this machine for `{asked_by}`"))?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let recorder = PrometheusBuilder::new().set_buckets(BUCKETS)?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| anyhow!("metrics are being recorded already"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime of the metrics")?;
    let is_asked_for = token.is_some();
    let serve = move || {
        if let Err(error) = runtime.block_on(serve(listener, handle, token)) {
            output::note(format!("metrics are no longer shown: {error}"));
        }
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(serve).context("cannot start the metrics")?;
    output::note(format!("metrics at http://{bound}/metrics"));
    if !is_asked_for && !bound.ip().is_loopback() {
        output::note("the metrics are shown to whoever can reach them; `cluster.metrics_token_file` asks for a token");
    }
    Ok(())
}

/// Says which role of which run this process plays.
pub(crate) fn introduce(role: &'static str, run: Digest) {
    metrics::describe_gauge!("riser_info", "Role, program version and run of the process; always 1");
    let labels = [("role", role.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned()), ("run", run.short())];
    metrics::gauge!("riser_info", &labels).set(1.0);
}

fn page(shown: &PrometheusHandle, token: Option<&Token>, headers: &HeaderMap) -> Response {
    let may_read = |token: &Token| headers.get(AUTHORIZATION).is_some_and(|said| token.is(said.as_bytes()));
    if token.is_none_or(may_read) {
        return ([(CONTENT_TYPE, FORMAT)], shown.render()).into_response();
    }
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "this page asks for a token\n").into_response()
}

async fn serve(listener: TcpListener, handle: PrometheusHandle, token: Option<Token>) -> std::io::Result<()> {
    let shown = handle.clone();
    let page = move |headers: HeaderMap| async move { page(&shown, token.as_ref(), &headers) };
    let upkeep = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    };
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::select! {
        ended = axum::serve(listener, Router::new().route("/metrics", get(page))) => ended,
        never = upkeep => never,
    }
}
