//! The actor that tells the coordinator about new versions, so that the step loop does not have to wait for it.
//!
//! | | |
//! |---|---|
//! | takes | the publisher's shelf, of which it only needs the newest version |
//! | waits for | the next version |
//! | gives | `Advance` calls; a version that is overtaken while the coordinator is away is never sent |

use crate::publisher::Shelf;
use riser_proto::{call::Patience, transport, v1};
use tokio::sync::watch;
use tonic::{Status, transport::Channel};

/// Reports every version until the publisher is gone and the last one has been reported.
pub(crate) async fn run(
    mut shelf: watch::Receiver<Shelf>,
    coordinator: Channel,
    patience: Patience,
) -> Result<(), Status> {
    let client = transport::coordinator_client(coordinator);
    while shelf.changed().await.is_ok() {
        let newest = shelf.borrow_and_update().last().map(|snapshot| snapshot.version());
        let Some(version) = newest else { continue };
        patience
            .retry(|| {
                let mut client = client.clone();
                async move { client.advance(v1::AdvanceRequest { version: version.0 }).await }
            })
            .await?;
        tracing::debug!(version = version.0, "coordinator knows the version");
    }
    Ok(())
}
