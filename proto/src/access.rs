//! Who may come in: what a server asks of every caller before it reads a message.
//!
//! With certificates a process has the role that its certificate names ([`role`]), with tokens the role whose token it shows; each
//! call is for certain roles. What is refused is counted and, as far as there is room, told to whoever watches.

mod door;
mod refusals;
pub mod role;
mod token;

pub use door::Door;
pub use refusals::{Refusals, reason_of};
pub use token::{Token, TokenError, Tokens};

use crate::{channel::WORKER, transport};
use door::Rules;
use riser_core::{digest::Digest, ids::WorkerId};
use std::{fmt, net::SocketAddr};
use tonic::{
    Request,
    metadata::MetadataMap,
    transport::{Server, ServerTlsConfig},
};

/// What a server asks of its callers; by default nothing, which is for servers that only their own process can reach.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Certificate of the server and whose clients it believes.
    pub tls: Option<ServerTlsConfig>,
    /// Whether a certificate that names no role is believed to be that of any role.
    pub certificates_without_roles: bool,
    /// Secrets of which every caller must know that of its role.
    pub tokens: Option<Tokens>,
    /// The run; callers that name another one are refused.
    pub run: Option<Digest>,
}

impl Access {
    /// A server that asks for certificates, if these are.
    ///
    /// # Errors
    /// If the certificates cannot be used.
    pub fn server(&self) -> Result<Server, tonic::transport::Error> {
        match &self.tls {
            Some(tls) => transport::server().tls_config(tls.clone()),
            None => Ok(transport::server()),
        }
    }

    /// Puts the door in front of a service; whom it refuses is written into `refusals`.
    pub fn guard<S>(&self, service: S, refusals: &Refusals) -> Door<S> {
        let certificates = self.tls.is_some().then_some(self.certificates_without_roles);
        Door::new(service, Rules { certificates, tokens: self.tokens.clone(), run: self.run }, refusals.clone())
    }
}

/// Who called, as far as it said so; for logs and for refusing whoever misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The number of the worker.
    pub worker: Option<WorkerId>,
    /// Where the connection comes from; `None` inside one process.
    pub address: Option<SocketAddr>,
}

impl Caller {
    /// Whoever sent `request`.
    pub fn of<T>(request: &Request<T>) -> Self {
        Self { worker: worker(request.metadata()), address: request.remote_addr() }
    }
}

fn worker(metadata: &MetadataMap) -> Option<WorkerId> {
    metadata.get(WORKER)?.to_str().ok()?.parse().ok().map(WorkerId)
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worker {
            Some(worker) => write!(formatter, "worker {worker}")?,
            None => write!(formatter, "unnamed caller")?,
        }
        match self.address {
            Some(address) => write!(formatter, " at {address}"),
            None => Ok(()),
        }
    }
}
