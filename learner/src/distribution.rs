//! The actor that makes deltas of what is published.
//!
//! | | |
//! |---|---|
//! | takes | the publisher's shelf, as a watch: versions that come faster than they are encoded are skipped, not queued |
//! | waits for | the next version; the blocking thread that compares it with the one before |
//! | gives | the offer that subscriptions are fed from, as a watch |
//!
//! Each delta is encoded once, however many subscribers there are, and nobody in the step loop waits for it. A version is
//! offered when its delta is ready.

use crate::publisher::Shelf;
use riser_core::{
    delta::{self, Packing, PolicyDelta, offer::PolicyOffer},
    snapshot::PolicySnapshot,
};
use riser_proto::offload::offload;
use std::sync::Arc;
use tokio::sync::watch;

/// How versions are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DistributionSettings {
    /// Every so many versions all subscribers take the whole policy, so that no chain of deltas is longer; 0 for never.
    pub anchor_every: u64,
    /// Whether deltas may be packed.
    pub packing: Packing,
}

impl Default for DistributionSettings {
    fn default() -> Self {
        Self { anchor_every: 100, packing: Packing::default() }
    }
}

/// Owns the offer.
#[derive(Debug)]
pub struct Distribution {
    settings: DistributionSettings,
    shelf: watch::Receiver<Shelf>,
    offer: watch::Sender<PolicyOffer>,
    newest: Option<Arc<PolicySnapshot>>,
}

impl Distribution {
    /// An actor over `shelf` and its offer, still empty.
    pub fn new(shelf: watch::Receiver<Shelf>, settings: DistributionSettings) -> (Self, watch::Receiver<PolicyOffer>) {
        let (offer, receiver) = watch::channel(PolicyOffer::default());
        (Self { settings, shelf, offer, newest: None }, receiver)
    }

    /// Offers every version until the publisher is gone.
    pub async fn run(mut self) {
        loop {
            let shelved = self.shelf.borrow_and_update().clone();
            for policy in shelved.iter() {
                if self.newest.as_ref().is_none_or(|newest| newest.version() < policy.version()) {
                    self.offer(policy.clone()).await;
                }
            }
            if self.shelf.changed().await.is_err() {
                return;
            }
        }
    }

    async fn offer(&mut self, policy: Arc<PolicySnapshot>) {
        let base = self.newest.replace(policy.clone());
        let delta = match base {
            Some(base) if !self.is_anchor(&policy) => self.encode(base, policy.clone()).await,
            _ => None,
        };
        // The shelf may have moved on meanwhile: what is no longer on it need not be offered.
        let oldest = self.shelf.borrow().first().map_or(policy.version(), |oldest| oldest.version());
        let oldest = oldest.min(policy.version());
        self.offer.send_modify(|offer| offer.add(policy, delta.map(Arc::new), oldest));
    }

    fn is_anchor(&self, policy: &PolicySnapshot) -> bool {
        self.settings.anchor_every > 0 && policy.version().0.is_multiple_of(self.settings.anchor_every)
    }

    /// The delta, made on a blocking thread; `None` if there is none, then the policy goes whole.
    async fn encode(&self, base: Arc<PolicySnapshot>, next: Arc<PolicySnapshot>) -> Option<PolicyDelta> {
        let (version, whole_bytes, packing) = (next.version().0, next.total_bytes(), self.settings.packing);
        match offload(move || delta::encode(&base, &next, packing)).await {
            Ok(Ok(delta)) => {
                let bytes = delta.encoded_bytes();
                tracing::debug!(version, bytes, whole_bytes, summary = ?delta.summary(), "delta made");
                Some(delta)
            }
            Ok(Err(error)) => {
                tracing::warn!(version, %error, "no delta, the policy goes whole");
                None
            }
            Err(error) => {
                tracing::error!(version, %error, "delta could not be made, the policy goes whole");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
