//! The settings of both ends of a connection.
//!
//! A sender may use the frame size its peer advertises and may fill the window its peer opens, so both ends carry the
//! same numbers. 16 MiB of window and 1 MiB frames move weights at the speed of raw TCP; the defaults reach a third.
//!
//! Nothing here opens a socket: servers take any stream of connections, clients any channel, so that a simulated network
//! can carry both.

pub use crate::channel::Channel;

use crate::v1::{
    catalog_client::CatalogClient,
    catalog_server::{Catalog, CatalogServer},
    coordinator_client::CoordinatorClient,
    coordinator_server::{Coordinator, CoordinatorServer},
    learner_client::LearnerClient,
    learner_server::{Learner, LearnerServer},
    operator_client::OperatorClient,
    operator_server::{Operator, OperatorServer},
    policy_relay_client::PolicyRelayClient,
    policy_relay_server::{PolicyRelay, PolicyRelayServer},
    watch_client::WatchClient,
    watch_server::{Watch, WatchServer},
};
use std::time::Duration;
use tonic::transport::{Endpoint, Server};

/// Data bytes of one message of a long transfer.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Largest message either end accepts.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const FRAME_BYTES: u32 = 1 << 20;
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Generous: on a small machine the training threads can keep the network threads waiting.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(60);

/// A server with our settings; add services and serve any stream of connections.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// A client end with our settings; connect it lazily, so that a role can start before its peers do.
pub fn endpoint(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// A client of the coordinator with our message limits.
pub fn coordinator_client(channel: impl Into<Channel>) -> CoordinatorClient<Channel> {
    CoordinatorClient::new(channel.into())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of whoever hands out the catalog, with our message limits.
pub fn catalog_client(channel: impl Into<Channel>) -> CatalogClient<Channel> {
    CatalogClient::new(channel.into())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of the learner with our message limits.
pub fn learner_client(channel: impl Into<Channel>) -> LearnerClient<Channel> {
    LearnerClient::new(channel.into())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of a worker that hands on policies, with our message limits.
pub fn relay_client(channel: Channel) -> PolicyRelayClient<Channel> {
    PolicyRelayClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The service of a worker that hands on policies, with our message limits.
pub fn relay_server<S: PolicyRelay>(service: S) -> PolicyRelayServer<S> {
    PolicyRelayServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The service that hands out the catalog, with our message limits.
pub fn catalog_server<S: Catalog>(service: S) -> CatalogServer<S> {
    CatalogServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The coordinator's service with our message limits.
pub fn coordinator_server<S: Coordinator>(service: S) -> CoordinatorServer<S> {
    CoordinatorServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The learner's service with our message limits.
pub fn learner_server<S: Learner>(service: S) -> LearnerServer<S> {
    LearnerServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of the learner for whoever runs the run, with our message limits.
pub fn operator_client(channel: impl Into<Channel>) -> OperatorClient<Channel> {
    OperatorClient::new(channel.into())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The learner's service for whoever runs the run, with our message limits.
pub fn operator_server<S: Operator>(service: S) -> OperatorServer<S> {
    OperatorServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of the coordinator for whoever watches, with our message limits.
pub fn watch_client(channel: impl Into<Channel>) -> WatchClient<Channel> {
    WatchClient::new(channel.into())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The coordinator's service for whoever watches, with our message limits.
pub fn watch_server<S: Watch>(service: S) -> WatchServer<S> {
    WatchServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}
