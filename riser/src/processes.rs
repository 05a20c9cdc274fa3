//! The roles as processes of their own: what each makes of the configuration, its credentials and its connections.

pub(crate) mod cache;
pub(crate) mod catalog_store;
pub(crate) mod certificates;
mod connector;
pub(crate) mod coordinator;
pub(crate) mod credentials;
pub(crate) mod learner;
pub(crate) mod operator;
mod refusal;
pub(crate) mod relay;
pub(crate) mod watcher;
pub(crate) mod worker;

use crate::failure::{Hint, Usage};
use riser_core::config::HostPort;
use std::net::SocketAddr;
use tonic::transport::server::TcpIncoming;

/// Listens at `address`; the second value is where, with the port that the system chose.
fn listen(address: SocketAddr, key: &str) -> anyhow::Result<(TcpIncoming, HostPort)> {
    let incoming = TcpIncoming::bind(address)
        .map_err(|error| Usage(format!("cannot listen on `{key} = \"{address}\"`: {error}")))
        .hint(|| format!("choose a free port and an address of this machine for `{key}`"))?
        .with_nodelay(Some(true));
    let bound = HostPort::from(incoming.local_addr()?);
    Ok((incoming, bound))
}
