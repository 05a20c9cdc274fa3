//! A worker's face for other workers, to which it hands policies on.

use super::credentials::Credentials;
use super::listen;
use crate::failure::{Hint, Usage};
use crate::output;
use riser_core::config::HostPort;
use riser_core::delta::offer::PolicyOffer;
use riser_core::digest::Digest;
use riser_proto::egress::EgressLedger;
use riser_rollout_worker::relay::{self, RelaySettings};
use std::net::SocketAddr;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::TcpIncoming;

/// Where a worker hands policies on.
pub(crate) struct RelayFace {
    listen: SocketAddr,
    advertise: Option<HostPort>,
}

impl RelayFace {
    /// A face at `listen`, which others reach at `advertise` if that is another address.
    pub(crate) fn new(
        listen: SocketAddr,
        advertise: Option<HostPort>,
        credentials: &Credentials,
    ) -> anyhow::Result<Self> {
        if credentials.asks_nobody() && !listen.ip().is_loopback() {
            return Err(Usage(format!("`--relay {listen}` can be reached from other machines, and nobody is asked")))
                .hint(|| "give certificates or a token, or --plaintext if the network is trusted".to_owned());
        }
        if listen.ip().is_unspecified() && advertise.is_none() {
            return Err(Usage(format!("`--relay {listen}` does not say where other workers reach it")))
                .hint(|| "add --relay-advertise HOST:PORT".to_owned());
        }
        Ok(Self { listen, advertise })
    }

    /// Listens from now on; the second value is where others reach it.
    pub(crate) fn open(&self) -> anyhow::Result<(TcpIncoming, HostPort)> {
        let (incoming, bound) = listen(self.listen, "--relay")?;
        Ok((incoming, self.advertise.clone().unwrap_or(bound)))
    }
}

/// Hands on what `shelf` holds to workers of `run`, until the guard is dropped.
pub(crate) fn serve(
    incoming: TcpIncoming,
    shelf: watch::Receiver<PolicyOffer>,
    credentials: &Credentials,
    run: Digest,
) -> DropGuard {
    let stop = CancellationToken::new();
    let (settings, access, egress) = (RelaySettings::default(), credentials.access(run), EgressLedger::default());
    let serving = relay::serve(shelf, incoming, settings, access, egress, stop.clone());
    tokio::spawn(async move {
        // Those below ask the learner then.
        if let Err(error) = serving.await {
            output::note(format!("warning: policies are not handed on any more: {error}"));
        }
    });
    stop.drop_guard()
}
