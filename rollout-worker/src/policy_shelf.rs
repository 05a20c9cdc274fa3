//! The policies a worker holds: only whole, verified ones.

use riser_core::{ids::PolicyVersion, snapshot::PolicySnapshot};
use riser_proto::{incarnation::Incarnation, policy::ReceivedPolicy};
use std::{collections::BTreeMap, sync::Arc};

/// Versions in hand. Changed in one move, so a reader sees a version whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyShelf {
    policies: BTreeMap<PolicyVersion, Arc<PolicySnapshot>>,
    oldest: Option<PolicyVersion>,
    /// The learner's incarnation that they come from.
    incarnation: u64,
}

/// What the shelf says about a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// In hand.
    Here(Arc<PolicySnapshot>),
    /// May still come.
    NotYet,
    /// No open batch is sampled with it any more.
    Gone,
}

impl PolicyShelf {
    /// Adds a received version and forgets those that can no longer be asked for.
    pub fn add(&mut self, received: ReceivedPolicy) {
        let ReceivedPolicy { snapshot, oldest } = received;
        self.policies.insert(snapshot.version(), Arc::new(snapshot));
        self.policies = self.policies.split_off(&oldest);
        self.oldest = Some(oldest);
    }

    /// Learns which learner sends from now on; true if it is another one. What its predecessor published after the version
    /// that this one started at has never happened.
    pub fn hear_from(&mut self, learner: Incarnation) -> bool {
        if learner.number == self.incarnation {
            return false;
        }
        self.incarnation = learner.number;
        self.policies.retain(|version, _| *version <= learner.start);
        self.oldest = None;
        true
    }

    /// The learner's incarnation that the policies come from; 0 before the first has been heard of.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Looks a version up.
    pub fn get(&self, version: PolicyVersion) -> Lookup {
        match self.policies.get(&version) {
            Some(policy) => Lookup::Here(policy.clone()),
            None if self.oldest.is_some_and(|oldest| version < oldest) => Lookup::Gone,
            None => Lookup::NotYet,
        }
    }

    /// The newest version in hand.
    pub fn newest(&self) -> Option<PolicyVersion> {
        self.policies.keys().next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use riser_core::snapshot::{SnapshotTensor, TensorDtype};

    fn received(version: u64, oldest: u64) -> ReceivedPolicy {
        let tensor = SnapshotTensor::new("w", vec![1], TensorDtype::F32, Bytes::from_static(&[0; 4])).unwrap();
        let snapshot = PolicySnapshot::new(PolicyVersion(version), vec![tensor]).unwrap();
        ReceivedPolicy { snapshot, oldest: PolicyVersion(oldest) }
    }

    #[test]
    fn a_version_is_not_yet_here_then_here_then_gone() {
        let mut shelf = PolicyShelf::default();
        assert_eq!(shelf.get(PolicyVersion(0)), Lookup::NotYet);
        shelf.add(received(0, 0));
        shelf.add(received(1, 0));
        assert!(matches!(shelf.get(PolicyVersion(0)), Lookup::Here(policy) if policy.version() == PolicyVersion(0)));
        shelf.add(received(2, 1));
        assert_eq!(shelf.get(PolicyVersion(0)), Lookup::Gone);
        assert_eq!(shelf.get(PolicyVersion(3)), Lookup::NotYet);
        assert_eq!(shelf.newest(), Some(PolicyVersion(2)));
    }

    #[test]
    fn what_an_earlier_learner_published_beyond_its_last_checkpoint_is_forgotten() {
        let mut shelf = PolicyShelf::default();
        assert!(shelf.hear_from(Incarnation { number: 1, start: PolicyVersion(0) }));
        (3..=6).for_each(|version| shelf.add(received(version, version.saturating_sub(2))));
        assert!(!shelf.hear_from(Incarnation { number: 1, start: PolicyVersion(0) }));
        assert_eq!((shelf.get(PolicyVersion(3)), shelf.newest()), (Lookup::Gone, Some(PolicyVersion(6))));

        assert!(shelf.hear_from(Incarnation { number: 2, start: PolicyVersion(4) }));
        assert_eq!((shelf.incarnation(), shelf.newest()), (2, Some(PolicyVersion(4))));
        assert_eq!(shelf.get(PolicyVersion(3)), Lookup::NotYet, "it may be asked for again");
        assert_eq!(shelf.get(PolicyVersion(5)), Lookup::NotYet);
    }
}
