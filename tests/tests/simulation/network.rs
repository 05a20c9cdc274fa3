//! A network in memory: connections are pipes, so simulated time works and nothing depends on ports.

use hyper_util::rt::TokioIo;
use riser::cluster::Place;
use riser_proto::transport;
use std::{
    io,
    sync::{Arc, Mutex},
};
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Bytes that a connection holds in each direction.
const PIPE_BYTES: usize = 1 << 20;

pub(crate) type Incoming = ReceiverStream<io::Result<DuplexStream>>;

/// A place that only this process can reach.
pub(crate) fn place() -> Place<Incoming> {
    let (arrivals, incoming) = mpsc::channel(16);
    let connect = move || {
        let arrivals = arrivals.clone();
        let connector = tower::service_fn(move |_| {
            let arrivals = arrivals.clone();
            async move {
                let (here, there) = tokio::io::duplex(PIPE_BYTES);
                arrivals.send(Ok(there)).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                Ok::<_, io::Error>(TokioIo::new(here))
            }
        });
        transport::endpoint(Endpoint::from_static("http://memory")).connect_with_connector_lazy(connector)
    };
    Place { incoming: ReceiverStream::new(incoming), connect: Arc::new(connect) }
}

type Arrivals = (mpsc::Sender<io::Result<DuplexStream>>, CancellationToken);

/// A place whose server can be killed with all its connections and started again.
#[derive(Clone, Default)]
pub(crate) struct Rebootable {
    server: Arc<Mutex<Option<Arrivals>>>,
}

impl Rebootable {
    /// The connections of a new server; those of the one before it break.
    pub(crate) fn boot(&self) -> Incoming {
        let (arrivals, incoming) = mpsc::channel(16);
        if let Some((_, killed)) = self.server.lock().unwrap().replace((arrivals, CancellationToken::new())) {
            killed.cancel();
        }
        ReceiverStream::new(incoming)
    }

    /// A channel to whichever server is there.
    pub(crate) fn connect(&self) -> Channel {
        let server = self.server.clone();
        let connector = tower::service_fn(move |_| {
            let server = server.clone();
            async move {
                let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let (arrivals, killed) = server.lock().unwrap().clone().ok_or_else(refused)?;
                let (here, mut near) = tokio::io::duplex(PIPE_BYTES);
                let (mut far, there) = tokio::io::duplex(PIPE_BYTES);
                arrivals.send(Ok(there)).await.map_err(|_| refused())?;
                tokio::spawn(async move {
                    let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
                    let _ = killed.run_until_cancelled(copy).await;
                });
                Ok::<_, io::Error>(TokioIo::new(here))
            }
        });
        transport::endpoint(Endpoint::from_static("http://memory")).connect_with_connector_lazy(connector)
    }
}
