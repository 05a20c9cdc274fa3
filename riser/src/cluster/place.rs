//! Where a server listens and how to reach it.

use riser_proto::transport;
use std::{net::Ipv4Addr, sync::Arc};
use tonic::transport::{Channel, Endpoint, server::TcpIncoming};

/// A place for one server: the connections that arrive there, and a way to make one.
pub struct Place<I> {
    /// Connections as they arrive.
    pub incoming: I,
    /// Makes a channel that connects when it is first used, and again when it must.
    pub connect: Arc<dyn Fn() -> Channel + Send + Sync>,
}

/// Why there is no place to listen.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The system gave us no port.
    #[error("cannot listen on the loopback interface: {0}")]
    Bind(#[from] std::io::Error),
    /// The address is not one.
    #[error("cannot reach {address}: {source}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
}

impl Place<TcpIncoming> {
    /// A free port of the loopback interface.
    ///
    /// # Errors
    /// [`PlaceError::Bind`] if the system has none for us.
    pub fn loopback() -> Result<Self, PlaceError> {
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?.with_nodelay(Some(true));
        let address = format!("http://{}", incoming.local_addr()?);
        let endpoint = Endpoint::from_shared(address.clone())
            .map(transport::endpoint)
            .map_err(|source| PlaceError::Address { address, source })?;
        Ok(Self { incoming, connect: Arc::new(move || endpoint.connect_lazy()) })
    }
}
