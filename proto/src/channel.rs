//! A client's end of a connection: where the peer is now, and the pass that is shown with every call.
//!
//! The address may change while calls are made: a learner that was started again elsewhere is followed by
//! [`Redirect::to`], and whoever holds a [`Channel`] only sees that its next call succeeds.

use crate::{access::Token, trace};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use riser_core::{digest::Digest, ids::WorkerId};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::watch;
use tonic::{body::Body, transport};
use tower::{Service, ServiceExt};

/// Metadata: the run that the caller takes part in, as 64 hexadecimal digits.
pub const RUN: &str = "riser-run";

/// Metadata: the number of the worker that calls.
pub const WORKER: &str = "riser-worker";

/// What a caller shows at the door.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    headers: HeaderMap,
}

impl Pass {
    /// Adds the join token.
    #[must_use]
    pub fn with_token(mut self, token: &Token) -> Self {
        self.headers.insert(AUTHORIZATION, token.header());
        self
    }

    /// Adds the run, so that a peer of another run refuses the call.
    #[must_use]
    pub fn with_run(mut self, run: Digest) -> Self {
        let value = HeaderValue::from_str(&run.to_string()).expect("hexadecimal digits are a header value");
        self.headers.insert(HeaderName::from_static(RUN), value);
        self
    }

    /// Adds the worker's number.
    #[must_use]
    pub fn with_worker(mut self, worker: WorkerId) -> Self {
        self.headers.insert(HeaderName::from_static(WORKER), HeaderValue::from(worker.0));
        self
    }
}

/// A connection to a peer, made when it is first used and again when it must; cheap to clone.
#[derive(Debug, Clone)]
pub struct Channel {
    current: watch::Receiver<transport::Channel>,
    pass: Pass,
}

/// Leads a channel and all its clones elsewhere.
#[derive(Debug)]
pub struct Redirect(watch::Sender<transport::Channel>);

impl Redirect {
    /// Every call from now on goes to `channel`.
    pub fn to(&self, channel: transport::Channel) {
        self.0.send_replace(channel);
    }
}

impl Channel {
    /// A channel that can be redirected.
    pub fn redirectable(channel: transport::Channel) -> (Self, Redirect) {
        let (sender, current) = watch::channel(channel);
        (Self { current, pass: Pass::default() }, Redirect(sender))
    }

    /// The same channel with another pass.
    #[must_use]
    pub fn with_pass(self, pass: Pass) -> Self {
        Self { pass, ..self }
    }
}

impl From<transport::Channel> for Channel {
    fn from(channel: transport::Channel) -> Self {
        // Without its sender the watch keeps its only value.
        Self::redirectable(channel).0
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, transport::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Which channel the call goes over is decided when it is made; it waits there for its turn.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        for (name, value) in &self.pass.headers {
            request.headers_mut().insert(name, value.clone());
        }
        trace::call(request.headers_mut());
        let channel = self.current.borrow().clone();
        Box::pin(channel.oneshot(request))
    }
}
