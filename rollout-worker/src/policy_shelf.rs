//! The policies a worker holds: only whole, verified ones, changed in one move, so that a reader sees a version whole or not
//! at all. They are kept as a [`PolicyOffer`], ready to be handed on.

use riser_core::{delta::offer::PolicyOffer, ids::PolicyVersion, snapshot::PolicySnapshot};
use riser_proto::policy::ReceivedPolicy;
use std::sync::Arc;

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

/// Looks a version up.
pub fn look_up(shelf: &PolicyOffer, version: PolicyVersion) -> Lookup {
    match shelf.policies().iter().find(|policy| policy.version() == version) {
        Some(policy) => Lookup::Here(policy.clone()),
        None if shelf.oldest().is_some_and(|oldest| version < oldest) => Lookup::Gone,
        None => Lookup::NotYet,
    }
}

/// Adds a received version and forgets those that can no longer be asked for.
pub fn add(shelf: &mut PolicyOffer, received: ReceivedPolicy) {
    let ReceivedPolicy { snapshot, oldest, delta } = received;
    shelf.add(Arc::new(snapshot), delta, oldest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use riser_core::snapshot::{SnapshotTensor, TensorDtype};

    fn received(version: u64, oldest: u64) -> ReceivedPolicy {
        let tensor = SnapshotTensor::new("w", vec![1], TensorDtype::F32, Bytes::from_static(&[0; 4])).unwrap();
        let snapshot = PolicySnapshot::new(PolicyVersion(version), vec![tensor]).unwrap();
        ReceivedPolicy { snapshot, oldest: PolicyVersion(oldest), delta: None }
    }

    #[test]
    fn a_version_is_not_yet_here_then_here_then_gone() {
        let mut shelf = PolicyOffer::default();
        assert_eq!(look_up(&shelf, PolicyVersion(0)), Lookup::NotYet);
        add(&mut shelf, received(0, 0));
        add(&mut shelf, received(1, 0));
        let here = look_up(&shelf, PolicyVersion(0));
        assert!(matches!(here, Lookup::Here(policy) if policy.version() == PolicyVersion(0)));
        add(&mut shelf, received(2, 1));
        assert_eq!(look_up(&shelf, PolicyVersion(0)), Lookup::Gone);
        assert_eq!(look_up(&shelf, PolicyVersion(3)), Lookup::NotYet);
    }

    #[test]
    fn a_learner_that_was_set_back_sets_the_shelf_back() {
        let mut shelf = PolicyOffer::default();
        add(&mut shelf, received(7, 7));
        add(&mut shelf, received(5, 5));
        assert!(matches!(look_up(&shelf, PolicyVersion(5)), Lookup::Here(_)));
        assert_eq!(look_up(&shelf, PolicyVersion(7)), Lookup::NotYet);
    }
}
