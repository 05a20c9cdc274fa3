//! Handing policies on: a worker's gRPC face for other workers, so that the learner's egress does not grow with their number.
//!
//! ```text
//! learner --> worker 0 --> worker 2, worker 3
//!         \-> worker 1 --> worker 4, worker 5        with a fan-out of 2, see riser_core::relay_roster
//! ```
//!
//! What is on the worker's shelf is handed on as it came: deltas are not encoded again. A relay makes no heartbeats of its
//! own, it hands on its source's, so a relay that is cut off falls silent and those below it ask the learner.

use crate::meter;
use riser_core::delta::offer::PolicyOffer;
use riser_proto::{
    access::{Access, Refusals},
    egress::EgressLedger,
    policy_feed::{FeedSettings, PolicyFeeds, PolicyStream},
    transport,
    v1::{self, policy_relay_server::PolicyRelay},
};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::server::Connected};

/// Settings of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelaySettings {
    /// Workers that may take their policies from here at one time: the fan-out, and room for those that come back before
    /// their old connection is noticed to be dead.
    pub max_subscribers: usize,
    /// How long a subscriber may leave a message untaken before it is dropped.
    pub subscriber_timeout: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self { max_subscribers: 16, subscriber_timeout: Duration::from_secs(60) }
    }
}

/// Serves what `shelf` holds to whoever `access` lets in, on the connections of `incoming` until `stop`; bytes are counted in
/// `egress`.
///
/// # Errors
/// Whatever the gRPC server reports.
pub async fn serve<I, IO, IE>(
    shelf: watch::Receiver<PolicyOffer>,
    incoming: I,
    settings: RelaySettings,
    access: Access,
    egress: EgressLedger,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    I: Stream<Item = Result<IO, IE>>,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    IE: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let RelaySettings { max_subscribers, subscriber_timeout } = settings;
    let feed = FeedSettings { heartbeat: None, subscriber_timeout, max_subscribers };
    let service = RelayService { feeds: PolicyFeeds::new(shelf, feed, egress, stop.clone()) };
    let refusals = Refusals::counted_by(meter::refused);
    access
        .server()?
        .add_service(access.guard(transport::relay_server(service), &refusals))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

#[derive(Debug)]
struct RelayService {
    feeds: PolicyFeeds,
}

#[tonic::async_trait]
impl PolicyRelay for RelayService {
    type SubscribePolicyStream = PolicyStream;

    async fn subscribe_policy(
        &self,
        request: Request<v1::SubscribePolicyRequest>,
    ) -> Result<Response<Self::SubscribePolicyStream>, Status> {
        Ok(Response::new(self.feeds.subscribe(&request.into_inner())?))
    }
}
