//! What policy subscriptions have cost so far: counters that a metrics endpoint can read.

use riser_core::ids::PolicyVersion;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Versions that are counted one by one; older ones only in the total.
const VERSIONS: usize = 64;

/// Deliveries and their bytes, as messages, without the framing of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Whole policies.
    pub anchors: u64,
    /// Deltas.
    pub deltas: u64,
    /// Bytes of both and of heartbeats.
    pub bytes: u64,
}

/// One open subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscriberEgress {
    /// The worker, if it said which it is.
    pub worker: Option<u64>,
    /// What it has been sent.
    pub sent: Sent,
    /// Newest version that it has been sent whole.
    pub newest: Option<PolicyVersion>,
}

/// All subscriptions of one publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Everything ever sent.
    pub total: Sent,
    /// The newest versions, summed over subscriptions.
    pub versions: BTreeMap<PolicyVersion, Sent>,
    /// The open subscriptions in the order they were opened; the key is their number.
    pub subscribers: BTreeMap<u64, SubscriberEgress>,
    /// Subscriptions ever opened.
    pub opened: u64,
    /// Subscriptions that were closed because the subscriber took nothing.
    pub dropped: u64,
}

/// The book that subscriptions write and others read; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EgressLedger {
    book: Arc<Mutex<Egress>>,
}

/// The entry of one open subscription; dropping it closes the entry.
#[derive(Debug)]
pub struct EgressEntry {
    ledger: EgressLedger,
    number: u64,
}

impl EgressLedger {
    /// The counters as they stand.
    pub fn read(&self) -> Egress {
        self.lock().clone()
    }

    /// Opens an entry.
    pub fn open(&self, worker: Option<u64>) -> EgressEntry {
        let mut book = self.lock();
        let number = book.opened;
        book.opened += 1;
        book.subscribers.insert(number, SubscriberEgress { worker, ..SubscriberEgress::default() });
        EgressEntry { ledger: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Egress> {
        // Counters have no invariant that a panic could have broken.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EgressEntry {
    /// Counts bytes on their way to a version, or of a heartbeat.
    pub(crate) fn bytes(&self, version: Option<PolicyVersion>, bytes: u64) {
        self.add(version, Sent { bytes, ..Sent::default() });
    }

    /// Counts a delivery that is complete.
    pub(crate) fn delivered(&self, version: PolicyVersion, is_delta: bool) {
        let (anchors, deltas) = (u64::from(!is_delta), u64::from(is_delta));
        self.add(Some(version), Sent { anchors, deltas, bytes: 0 });
        if let Some(subscriber) = self.ledger.lock().subscribers.get_mut(&self.number) {
            subscriber.newest = Some(version);
        }
    }

    /// Counts a subscriber that took nothing.
    pub(crate) fn dropped(&self) {
        self.ledger.lock().dropped += 1;
    }

    fn add(&self, version: Option<PolicyVersion>, more: Sent) {
        let mut book = self.ledger.lock();
        book.total.add(more);
        if let Some(subscriber) = book.subscribers.get_mut(&self.number) {
            subscriber.sent.add(more);
        }
        if let Some(version) = version {
            book.versions.entry(version).or_default().add(more);
            if book.versions.len() > VERSIONS {
                book.versions.pop_first();
            }
        }
    }
}

impl Drop for EgressEntry {
    fn drop(&mut self) {
        self.ledger.lock().subscribers.remove(&self.number);
    }
}

impl Sent {
    fn add(&mut self, more: Sent) {
        self.anchors += more.anchors;
        self.deltas += more.deltas;
        self.bytes += more.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_subscriber_by_version_and_in_all() {
        let ledger = EgressLedger::default();
        let (one, two) = (ledger.open(Some(7)), ledger.open(None));
        one.bytes(Some(PolicyVersion(3)), 100);
        one.delivered(PolicyVersion(3), false);
        one.bytes(None, 2);
        two.bytes(Some(PolicyVersion(3)), 10);
        two.delivered(PolicyVersion(3), true);
        let book = ledger.read();
        assert_eq!(book.total, Sent { anchors: 1, deltas: 1, bytes: 112 });
        assert_eq!(book.versions[&PolicyVersion(3)], Sent { anchors: 1, deltas: 1, bytes: 110 });
        let first = SubscriberEgress {
            worker: Some(7),
            sent: Sent { anchors: 1, deltas: 0, bytes: 102 },
            newest: Some(PolicyVersion(3)),
        };
        assert_eq!(book.subscribers[&0], first);
        drop(one);
        let book = ledger.read();
        assert_eq!((book.subscribers.len(), book.opened, book.total.bytes), (1, 2, 112));
    }

    #[test]
    fn only_the_newest_versions_are_kept_apart() {
        let ledger = EgressLedger::default();
        let entry = ledger.open(None);
        (0..200).for_each(|version| entry.bytes(Some(PolicyVersion(version)), 1));
        let book = ledger.read();
        assert_eq!((book.versions.len(), book.total.bytes), (VERSIONS, 200));
        assert_eq!(book.versions.first_key_value().map(|(version, _)| version.0), Some(200 - VERSIONS as u64));
    }
}
