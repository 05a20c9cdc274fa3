//! Serving policy subscriptions: the same for the learner and for a worker that hands policies on.
//!
//! The source changes a [`PolicyOffer`] and goes on; each subscription is a task of its own that copies from the offer to
//! its connection. The offer holds the versions that open batches are sampled with, so a slow subscriber that misses a
//! version misses nothing that it could still be asked for.

use crate::{
    egress::{EgressEntry, EgressLedger},
    policy,
    v1::{self, PolicyChunk},
};
use prost::Message;
use riser_core::{
    delta::offer::{Delivery, PolicyOffer},
    ids::PolicyVersion,
    snapshot::PolicyIdentity,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{
    Semaphore,
    mpsc::{self, error::SendTimeoutError},
    watch,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages of a subscription that may wait for its connection.
const SUBSCRIPTION_MESSAGES: usize = 4;

/// How a subscription is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedSettings {
    /// Silence after which a heartbeat is sent. `None` leaves that to the source, which marks the offer as changed without
    /// changing it.
    pub heartbeat: Option<Duration>,
    /// How long a message may stay untaken before the subscriber is dropped.
    pub subscriber_timeout: Duration,
    /// Subscribers at one time.
    pub max_subscribers: usize,
}

/// Messages of one subscription.
pub type PolicyStream = ReceiverStream<Result<PolicyChunk, Status>>;

/// Opens subscriptions to one source; cheap to clone.
#[derive(Debug, Clone)]
pub struct PolicyFeeds {
    offer: watch::Receiver<PolicyOffer>,
    settings: FeedSettings,
    places: Arc<Semaphore>,
    ledger: EgressLedger,
    stop: CancellationToken,
}

impl PolicyFeeds {
    /// Subscriptions to `offer`; `stop` ends them all. Dropping the offer's writing end ends each after what is on offer has
    /// been sent.
    pub fn new(
        offer: watch::Receiver<PolicyOffer>,
        settings: FeedSettings,
        ledger: EgressLedger,
        stop: CancellationToken,
    ) -> Self {
        Self { offer, settings, places: Arc::new(Semaphore::new(settings.max_subscribers)), ledger, stop }
    }

    /// Opens a subscription on a task of its own.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if all places are taken, `INVALID_ARGUMENT` for a request that makes no sense.
    pub fn subscribe(&self, request: &v1::SubscribePolicyRequest) -> Result<PolicyStream, Status> {
        let held = policy::held(request)?;
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("no room for another policy subscriber"))?;
        let (sender, receiver) = mpsc::channel(SUBSCRIPTION_MESSAGES);
        let entry = self.ledger.open(request.worker);
        let (offer, settings, stop) = (self.offer.clone(), self.settings, self.stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(feed(offer, held, sender, settings, entry)).await;
            drop(place);
        });
        Ok(ReceiverStream::new(receiver))
    }
}

/// Sends whatever leads from `held` to the newest version, then every new one, until the subscriber or the source ends it.
pub async fn feed(
    offer: watch::Receiver<PolicyOffer>,
    held: Option<PolicyIdentity>,
    out: mpsc::Sender<Result<PolicyChunk, Status>>,
    settings: FeedSettings,
    entry: EgressEntry,
) {
    let line = Line { out, timeout: settings.subscriber_timeout, entry };
    match line.follow(offer, held, settings.heartbeat.unwrap_or(Duration::MAX)).await {
        Err(SendTimeoutError::Timeout(_)) => {
            line.entry.dropped();
            tracing::warn!("policy subscriber dropped: it takes nothing");
        }
        Err(SendTimeoutError::Closed(_)) => tracing::debug!("policy subscriber left"),
        Ok(()) => {}
    }
}

fn next(offer: &mut watch::Receiver<PolicyOffer>, held: Option<PolicyIdentity>) -> Option<(Delivery, PolicyVersion)> {
    let offer = offer.borrow_and_update();
    Some((offer.next_for(held)?, offer.oldest()?))
}

/// The way to one subscriber.
struct Line {
    out: mpsc::Sender<Result<PolicyChunk, Status>>,
    timeout: Duration,
    entry: EgressEntry,
}

type Refused = SendTimeoutError<Result<PolicyChunk, Status>>;

impl Line {
    async fn follow(
        &self,
        mut offer: watch::Receiver<PolicyOffer>,
        mut held: Option<PolicyIdentity>,
        silence: Duration,
    ) -> Result<(), Refused> {
        let mut has_waited = false;
        loop {
            let mut is_silent = true;
            while let Some((delivery, oldest)) = next(&mut offer, held) {
                self.deliver(&delivery, oldest).await?;
                held = Some(delivery.identity());
                is_silent = false;
            }
            if is_silent && has_waited {
                self.send(policy::heartbeat(), None).await?;
            }
            if let Ok(Err(_source_gone)) = tokio::time::timeout(silence, offer.changed()).await {
                return Ok(());
            }
            has_waited = true;
        }
    }

    async fn deliver(&self, delivery: &Delivery, oldest: PolicyVersion) -> Result<(), Refused> {
        let version = delivery.identity().version;
        for chunk in policy::delivery_chunks(delivery, oldest) {
            self.send(chunk, Some(version)).await?;
        }
        self.entry.delivered(version, matches!(delivery, Delivery::Delta(_)));
        Ok(())
    }

    async fn send(&self, chunk: PolicyChunk, version: Option<PolicyVersion>) -> Result<(), Refused> {
        let bytes = chunk.encoded_len() as u64;
        self.out.send_timeout(Ok(chunk), self.timeout).await?;
        self.entry.bytes(version, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
