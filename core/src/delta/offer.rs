//! What a publisher can send, and what it should send to whom.

use super::PolicyDelta;
use crate::{
    ids::PolicyVersion,
    snapshot::{PolicyIdentity, PolicySnapshot},
};
use std::sync::Arc;

/// The retained policies, whole, and the chain of deltas that leads to the newest one.
///
/// The chain is kept as long as it is shorter than the newest policy itself: beyond that nobody would be sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyOffer {
    /// Ascending by version.
    policies: Vec<Arc<PolicySnapshot>>,
    /// Each starts where the one before it ends.
    deltas: Vec<Arc<PolicyDelta>>,
}

/// One thing to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A whole policy; needs nothing in hand.
    Anchor(Arc<PolicySnapshot>),
    /// The way there from the policy in hand.
    Delta(Arc<PolicyDelta>),
}

impl Delivery {
    /// The policy in hand once it has arrived.
    pub fn identity(&self) -> PolicyIdentity {
        match self {
            Self::Anchor(policy) => policy.identity(),
            Self::Delta(delta) => delta.next(),
        }
    }
}

impl PolicyOffer {
    /// Adds a version and forgets the policies before `oldest`.
    ///
    /// `delta` is the way from the newest version so far; without one, or with one that starts elsewhere, whoever wants the
    /// new version takes it whole and the chain begins anew. A version that is not the newest replaces what is not older:
    /// the publisher was set back.
    pub fn add(&mut self, policy: Arc<PolicySnapshot>, delta: Option<Arc<PolicyDelta>>, oldest: PolicyVersion) {
        let newest = self.newest();
        let fits = |delta: &Arc<PolicyDelta>| Some(delta.base()) == newest && delta.next() == policy.identity();
        match delta.filter(fits) {
            Some(delta) => self.deltas.push(delta),
            None => self.deltas.clear(),
        }
        let mut chain_bytes: u64 = self.deltas.iter().map(|delta| delta.encoded_bytes()).sum();
        let limit = policy.total_bytes();
        let too_long = self.deltas.iter().take_while(|delta| {
            let is_too_long = chain_bytes >= limit;
            chain_bytes -= delta.encoded_bytes();
            is_too_long
        });
        let num_dropped = too_long.count();
        self.deltas.drain(..num_dropped);
        self.policies.retain(|older| (oldest..policy.version()).contains(&older.version()));
        self.policies.push(policy);
    }

    /// The retained policies, ascending by version.
    pub fn policies(&self) -> &[Arc<PolicySnapshot>] {
        &self.policies
    }

    /// Oldest version that is retained.
    pub fn oldest(&self) -> Option<PolicyVersion> {
        self.policies.first().map(|policy| policy.version())
    }

    /// The newest policy.
    pub fn newest(&self) -> Option<PolicyIdentity> {
        self.policies.last().map(|policy| policy.identity())
    }

    /// What to send next to someone who holds `held`; `None` if that is up to date. Asked again after every delivery, it
    /// leads over all retained versions after `held` to the newest.
    ///
    /// A chain of deltas is sent if it has fewer bytes than the policy it leads to. Whoever holds nothing, or something
    /// that is unknown here, gets everything that is retained, the first of it whole.
    pub fn next_for(&self, held: Option<PolicyIdentity>) -> Option<Delivery> {
        let held = held.filter(|held| self.knows(*held));
        let target = match held {
            None => self.policies.first()?,
            Some(held) => self.policies.iter().find(|policy| policy.version() > held.version)?,
        };
        Some(match held.and_then(|held| self.chain(held, target)) {
            Some(first) => Delivery::Delta(first),
            None => Delivery::Anchor(target.clone()),
        })
    }

    fn knows(&self, identity: PolicyIdentity) -> bool {
        let retained = self.policies.iter().any(|policy| policy.identity() == identity);
        retained || self.deltas.iter().any(|delta| delta.base() == identity || delta.next() == identity)
    }

    /// First delta of the chain from `held` to `target`, if there is one that is worth sending.
    fn chain(&self, held: PolicyIdentity, target: &PolicySnapshot) -> Option<Arc<PolicyDelta>> {
        let first = self.deltas.iter().position(|delta| delta.base() == held)?;
        let end = self.deltas[first..].iter().position(|delta| delta.next() == target.identity())?;
        let bytes: u64 = self.deltas[first..=first + end].iter().map(|delta| delta.encoded_bytes()).sum();
        (bytes < target.total_bytes()).then(|| self.deltas[first].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delta::{Packing, apply, encode},
        snapshot::{SnapshotTensor, TensorDtype},
    };
    use proptest::prelude::*;

    /// A policy of 1,000 elements of which `version` alone decides a few.
    fn policy(version: u64) -> Arc<PolicySnapshot> {
        let value = |element: u64| if element < 20 * (version % 7) { version as f32 } else { 0.5 };
        let bytes: Vec<u8> = (0..1000).flat_map(|element| value(element).to_le_bytes()).collect();
        let tensor = SnapshotTensor::new("w", vec![1000], TensorDtype::F32, bytes.into()).unwrap();
        Arc::new(PolicySnapshot::new(PolicyVersion(version), vec![tensor]).unwrap())
    }

    fn delta(from: u64, to: u64) -> Arc<PolicyDelta> {
        Arc::new(encode(&policy(from), &policy(to), Packing::Never).unwrap())
    }

    /// An offer of versions `0..end` that retains `retained` of them; `skipped` have no delta.
    fn offer(end: u64, retained: u64, skipped: &[u64]) -> PolicyOffer {
        let mut offer = PolicyOffer::default();
        for version in 0..end {
            let delta = (version > 0 && !skipped.contains(&version)).then(|| delta(version - 1, version));
            offer.add(policy(version), delta, PolicyVersion((version + 1).saturating_sub(retained)));
        }
        offer
    }

    /// Follows an offer to its end like a receiver; returns the versions whole and by delta, and the bytes.
    fn follow(offer: &PolicyOffer, held: Option<Arc<PolicySnapshot>>) -> (Vec<u64>, Vec<u64>, u64) {
        let mut held = held.map(|held| (*held).clone());
        let (mut anchors, mut deltas, mut bytes) = (vec![], vec![], 0);
        while let Some(delivery) = offer.next_for(held.as_ref().map(PolicySnapshot::identity)) {
            let next = match &delivery {
                Delivery::Anchor(policy) => {
                    anchors.push(policy.version().0);
                    bytes += policy.total_bytes();
                    (**policy).clone()
                }
                Delivery::Delta(delta) => {
                    deltas.push(delta.next().version.0);
                    bytes += delta.encoded_bytes();
                    apply(held.as_ref().unwrap(), delta).unwrap()
                }
            };
            assert_eq!(next.identity(), delivery.identity());
            held = Some(next);
        }
        assert_eq!(held.map(|held| held.identity()), offer.newest());
        (anchors, deltas, bytes)
    }

    #[test]
    fn a_newcomer_gets_one_anchor_and_then_deltas() {
        assert_eq!(follow(&offer(6, 1, &[]), None).0, [5]);
        let (anchors, deltas, _) = follow(&offer(6, 3, &[]), None);
        assert_eq!((anchors, deltas), (vec![3], vec![4, 5]));
        assert_eq!(PolicyOffer::default().next_for(None), None);
    }

    #[test]
    fn whoever_is_up_to_date_gets_nothing_and_whoever_is_one_behind_one_delta() {
        let offer = offer(5, 1, &[]);
        assert_eq!(offer.next_for(Some(policy(4).identity())), None);
        let (anchors, deltas, _) = follow(&offer, Some(policy(3)));
        assert_eq!((anchors, deltas), (vec![], vec![4]));
    }

    #[test]
    fn a_gap_in_the_chain_is_crossed_by_an_anchor() {
        let offer = offer(5, 2, &[3]);
        let (anchors, deltas, _) = follow(&offer, Some(policy(2)));
        assert_eq!((anchors, deltas), (vec![3], vec![4]));
    }

    #[test]
    fn an_unknown_policy_counts_as_none_even_under_a_known_or_a_later_version() {
        let offer = offer(5, 2, &[]);
        for version in [4, 9] {
            let other = PolicyIdentity { version: PolicyVersion(version), digest: policy(0).digest() };
            assert_eq!(offer.next_for(Some(other)), Some(Delivery::Anchor(policy(3))));
        }
    }

    #[test]
    fn a_publisher_that_was_set_back_offers_nothing_from_its_future() {
        let mut offer = offer(6, 3, &[]);
        offer.add(policy(4), None, PolicyVersion(2));
        let versions: Vec<u64> = offer.policies().iter().map(|policy| policy.version().0).collect();
        assert_eq!(versions, [3, 4]);
        assert_eq!(offer.next_for(Some(policy(5).identity())), Some(Delivery::Anchor(policy(3))));
    }

    #[test]
    fn a_delta_from_elsewhere_is_not_offered() {
        let mut offer = offer(3, 1, &[]);
        offer.add(policy(3), Some(delta(1, 3)), PolicyVersion(3));
        assert_eq!(offer.next_for(Some(policy(2).identity())), Some(Delivery::Anchor(policy(3))));
    }

    proptest! {
        #[test]
        fn whatever_is_held_the_newest_is_reached_over_every_retained_version_at_no_more_than_the_price_of_anchors(
            end in 1u64..20, retained in 1u64..4, skipped in prop::collection::vec(0u64..20, 0..4),
            held in prop::option::of(0u64..20),
        ) {
            let offer = offer(end, retained, &skipped);
            prop_assert!(offer.deltas.iter().map(|delta| delta.encoded_bytes()).sum::<u64>() < 4000);
            let held = held.filter(|&version| version < end);
            let (anchors, deltas, bytes) = follow(&offer, held.map(policy));
            let first = held.map_or(0, |held| held + 1).max(end.saturating_sub(retained));
            for version in first..end {
                prop_assert!(anchors.contains(&version) || deltas.contains(&version), "version {version} is missing");
            }
            prop_assert!(bytes <= 4000 * (end - first));
        }
    }
}
