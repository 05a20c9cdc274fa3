//! A network in memory: connections are pipes, so simulated time works and nothing depends on ports.

use hyper_util::rt::TokioIo;
use riser::cluster::Place;
use riser_proto::transport;
use std::{io, sync::Arc};
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

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
