//! The actor that tells the coordinator about new versions, so that the step loop does not have to wait for it.
//!
//! | | |
//! |---|---|
//! | takes | the publisher's shelf, of which it only needs the newest version |
//! | waits for | the next version, or the next sign of life |
//! | gives | `Advance` calls, or `Register` calls to a coordinator in another process; a version that is overtaken while the coordinator is away is never sent |
//!
//! A registration says everything each time, so a coordinator that was started again knows the learner after one of them.

use crate::{presence::Registration, publisher::Shelf};
use riser_core::ids::PolicyVersion;
use riser_proto::{
    call::Patience,
    health::Health,
    transport::{self, Channel},
    v1,
};
use tokio::sync::watch;
use tonic::{Response, Status};

/// Reports every version until the publisher is gone and the last one has been reported.
pub(crate) async fn run(
    mut shelf: watch::Receiver<Shelf>,
    coordinator: Channel,
    patience: Patience,
    registration: Option<Registration>,
    health: Health,
) -> Result<(), Status> {
    let mut reported = None;
    while next(&mut shelf, registration.as_ref()).await {
        let newest = shelf.borrow_and_update().last().map(|snapshot| snapshot.version());
        let Some(version) = newest else { continue };
        report(&coordinator, patience, registration.as_ref(), version).await?;
        if reported.replace(version).is_none() {
            health.serving().await;
        }
        tracing::debug!(version = version.0, "coordinator knows the version");
    }
    Ok(())
}

/// Tells the coordinator where a learner stands that is not running: that the run is over, for example.
///
/// # Errors
/// The last status, when patience ends or the coordinator disagrees.
pub async fn announce(
    coordinator: impl Into<Channel> + Send,
    patience: Patience,
    registration: &Registration,
    version: PolicyVersion,
) -> Result<(), Status> {
    report(&coordinator.into(), patience, Some(registration), version).await
}

/// Waits until there is something to say; false once there never will be.
async fn next(shelf: &mut watch::Receiver<Shelf>, registration: Option<&Registration>) -> bool {
    match registration {
        None => shelf.changed().await.is_ok(),
        Some(registration) => match tokio::time::timeout(registration.heartbeat, shelf.changed()).await {
            Ok(changed) => changed.is_ok(),
            Err(_silence) => true,
        },
    }
}

async fn report(
    coordinator: &Channel,
    patience: Patience,
    registration: Option<&Registration>,
    version: PolicyVersion,
) -> Result<(), Status> {
    let client = transport::coordinator_client(coordinator.clone());
    let call = || {
        let mut client = client.clone();
        async move {
            match registration {
                None => client.advance(v1::AdvanceRequest { version: version.0 }).await.map(|_| Response::new(())),
                Some(Registration { address, incarnation, .. }) => {
                    let (address, incarnation) = (address.clone(), *incarnation);
                    let request = v1::RegisterRequest { address, incarnation, version: version.0 };
                    client.register(request).await.map(|_| Response::new(()))
                }
            }
        }
    };
    patience.retry(call).await
}
