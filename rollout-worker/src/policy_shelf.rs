//! The policies a worker holds: only whole, verified ones.

use riser_core::{ids::PolicyVersion, snapshot::PolicySnapshot};
use riser_proto::policy::ReceivedPolicy;
use std::{collections::BTreeMap, sync::Arc};

/// Versions in hand. Changed in one move, so a reader sees a version whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyShelf {
    policies: BTreeMap<PolicyVersion, Arc<PolicySnapshot>>,
    oldest: Option<PolicyVersion>,
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
}
