//! Pushing policies to whoever subscribed.
//!
//! The publisher puts a version on the shelf and goes on; each subscriber has a task of its own that copies from the shelf
//! to its connection. The shelf holds the versions that a lease may name, so a slow subscriber that misses
//! a version misses nothing that it could still be asked for.

use riser_core::{ids::PolicyVersion, pacing::Pacing, snapshot::PolicySnapshot};
use riser_proto::{policy, v1::PolicyChunk};
use std::{sync::Arc, time::Duration};
use tokio::sync::{
    mpsc::{self, error::SendTimeoutError},
    watch,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The retained versions, ascending; shared, never changed.
pub type Shelf = Arc<[Arc<PolicySnapshot>]>;

/// The writing end; dropping it ends every subscription after what is on the shelf has been sent.
#[derive(Debug)]
pub struct Publisher {
    pacing: Pacing,
    shelf: watch::Sender<Shelf>,
}

impl Publisher {
    /// A publisher with an empty shelf.
    pub fn new(pacing: Pacing) -> (Self, watch::Receiver<Shelf>) {
        let (shelf, receiver) = watch::channel(Shelf::from([]));
        (Self { pacing, shelf }, receiver)
    }

    /// Puts a version on the shelf and removes those that no lease names any more. Waits for nobody.
    pub fn publish(&self, snapshot: PolicySnapshot) {
        let retained = self.pacing.retained(snapshot.version());
        self.shelf.send_modify(|shelf| {
            let older = shelf.iter().filter(|older| retained.contains(&older.version().0)).cloned();
            *shelf = older.chain([Arc::new(snapshot)]).collect();
        });
    }

    /// What is on the shelf.
    pub fn shelf(&self) -> Shelf {
        self.shelf.borrow().clone()
    }
}

/// How a subscription is served.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionSettings {
    /// Silence after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// How long a message may stay untaken before the subscriber is dropped.
    pub subscriber_timeout: Duration,
}

/// Sends every shelved version after `after`, then every new one, until the subscriber, the publisher or `stop` ends it.
pub async fn feed(
    mut shelf: watch::Receiver<Shelf>,
    mut after: Option<PolicyVersion>,
    out: mpsc::Sender<Result<PolicyChunk, Status>>,
    settings: SubscriptionSettings,
    stop: CancellationToken,
) {
    let send = async |chunk| out.send_timeout(Ok(chunk), settings.subscriber_timeout).await;
    let feeding = async {
        loop {
            let shelved = shelf.borrow_and_update().clone();
            for snapshot in shelved.iter() {
                if after.is_some_and(|after| snapshot.version() <= after) {
                    continue;
                }
                for chunk in policy::chunks(snapshot, shelved[0].version()) {
                    send(chunk).await?;
                }
                after = Some(snapshot.version());
            }
            match tokio::time::timeout(settings.heartbeat, shelf.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_publisher_gone)) => return Ok(()),
                Err(_silence) => send(policy::heartbeat()).await?,
            }
        }
    };
    match stop.run_until_cancelled(feeding).await {
        Some(Err(SendTimeoutError::Timeout(_))) => tracing::warn!("policy subscriber dropped: it takes nothing"),
        Some(Err(SendTimeoutError::Closed(_))) => tracing::debug!("policy subscriber left"),
        Some(Ok(())) | None => {}
    }
}

#[cfg(test)]
mod tests;
