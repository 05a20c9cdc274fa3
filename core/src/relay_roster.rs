//! Who hands policies to whom.
//!
//! ```text
//! learner --> 0 --> 2, 3
//!         \-> 1 --> 4, 5         fan-out 2; every worker here hands policies on
//! ```
//!
//! A newcomer gets the place nearest to the learner: the learner's own while fewer than the fan-out take from it, then one
//! below a worker that hands policies on. So nobody sends to more than the fan-out, and the last of N workers is about log N hops
//! away. With nobody to hand policies on, the learner sends to all. Those below a worker that is gone ask the learner by
//! themselves, and are counted there.

use crate::ids::WorkerId;
use std::{collections::BTreeMap, num::NonZeroU32};

/// The places of all workers; `A` is where those that hand policies on are reached.
#[derive(Debug, Clone)]
pub struct RelayRoster<A> {
    fan_out: NonZeroU32,
    places: BTreeMap<WorkerId, Place<A>>,
}

#[derive(Debug, Clone)]
struct Place<A> {
    /// `None` is the learner.
    parent: Option<WorkerId>,
    /// `None` hands nothing on.
    address: Option<A>,
}

impl<A: PartialEq> RelayRoster<A> {
    /// Nobody yet; each place sends to at most `fan_out` workers.
    pub fn new(fan_out: NonZeroU32) -> Self {
        Self { fan_out, places: BTreeMap::new() }
    }

    /// Gives a newcomer its place; with an `address` it hands policies on to others, and an earlier worker with the same address
    /// is gone. Returns the worker that it takes policies
    /// from and where that is; `None` for the learner.
    pub fn join(&mut self, worker: WorkerId, address: Option<A>) -> Option<(WorkerId, &A)> {
        self.leave(worker);
        // Whoever listens there now has taken the place of one that is gone, and must not be sent to itself.
        let is_gone = |place: &Place<A>| address.is_some() && place.address == address;
        let gone: Vec<WorkerId> =
            self.places.iter().filter(|(_, place)| is_gone(place)).map(|(worker, _)| *worker).collect();
        gone.into_iter().for_each(|worker| self.leave(worker));
        let mut children: BTreeMap<Option<WorkerId>, u32> = BTreeMap::new();
        for place in self.places.values() {
            *children.entry(place.parent).or_default() += 1;
        }
        let is_free = |parent| children.get(&parent).is_none_or(|&count| count < self.fan_out.get());
        let relays = self.places.iter().filter(|(relay, place)| place.address.is_some() && is_free(Some(**relay)));
        let nearest = relays.map(|(relay, _)| *relay).min_by_key(|relay| (self.hops(*relay), *relay));
        let parent = if is_free(None) { None } else { nearest };
        self.places.insert(worker, Place { parent, address });
        let parent = parent?;
        Some((parent, self.places.get(&parent)?.address.as_ref()?))
    }

    /// Takes a worker out.
    pub fn leave(&mut self, worker: WorkerId) {
        self.places.remove(&worker);
        self.places.values_mut().filter(|place| place.parent == Some(worker)).for_each(|place| place.parent = None);
    }

    /// How far a worker is from the learner.
    fn hops(&self, worker: WorkerId) -> u32 {
        let (mut hops, mut at) = (1, worker);
        // Whoever is a parent was here before its children, so this ends.
        while let Some(parent) = self.places.get(&at).and_then(|place| place.parent) {
            (hops, at) = (hops + 1, parent);
        }
        hops
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn roster(fan_out: u32) -> RelayRoster<u64> {
        RelayRoster::new(fan_out.try_into().unwrap())
    }

    /// Each worker has an address of its own.
    fn join(roster: &mut RelayRoster<u64>, worker: u64, hands_on: bool) -> Option<u64> {
        roster.join(WorkerId(worker), hands_on.then_some(worker)).map(|(parent, _)| parent.0)
    }

    #[test]
    fn the_picture_is_true() {
        let mut roster = roster(2);
        let parents: Vec<Option<u64>> = (0..6).map(|worker| join(&mut roster, worker, true)).collect();
        assert_eq!(parents, [None, None, Some(0), Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn without_anybody_to_hand_policies_on_the_learner_sends_to_all() {
        let mut roster = roster(2);
        assert!((0..5).all(|worker| join(&mut roster, worker, false).is_none()));
    }

    #[test]
    fn those_below_a_worker_that_left_count_as_the_learners_own() {
        let mut roster = roster(2);
        (0..4).for_each(|worker| {
            join(&mut roster, worker, true);
        });
        roster.leave(WorkerId(0));
        // The learner has 1, 2 and 3 now.
        assert_eq!(join(&mut roster, 4, true), Some(1));
        roster.leave(WorkerId(2));
        roster.leave(WorkerId(3));
        assert_eq!(join(&mut roster, 5, true), None);
    }

    #[test]
    fn a_worker_that_was_started_again_at_its_address_is_not_sent_to_itself() {
        let mut roster = roster(1);
        assert_eq!(join(&mut roster, 0, true), None);
        assert_eq!(join(&mut roster, 1, true), Some(0));
        // Worker 0 has died and come back as worker 2; worker 1 has asked the learner meanwhile.
        let parent = roster.join(WorkerId(2), Some(0)).map(|(parent, address)| (parent.0, *address));
        assert_eq!(parent, Some((1, 1)));
    }

    proptest! {
        #[test]
        fn nobody_sends_to_more_than_the_fan_out_and_everybody_hangs_on_the_learner_by_few_hops(
            workers in 1u64..300, fan_out in 1u32..9,
        ) {
            let mut roster = roster(fan_out);
            let mut children: BTreeMap<Option<u64>, u32> = BTreeMap::new();
            for worker in 0..workers {
                *children.entry(join(&mut roster, worker, true)).or_default() += 1;
            }
            prop_assert!(children.values().all(|&count| count <= fan_out));
            let hops = (0..workers).map(|worker| roster.hops(WorkerId(worker))).max().unwrap();
            prop_assert!(fan_out == 1 || hops <= (workers + 1).ilog2() + 1, "{hops} hops");
        }

        #[test]
        fn whoever_comes_and_goes_a_newcomer_is_sent_to_a_place_that_is_there_and_has_room(
            steps in prop::collection::vec((0u64..12, any::<bool>(), any::<bool>()), 1..80), fan_out in 1u32..4,
        ) {
            let mut roster = roster(fan_out);
            for (worker, joins, hands_on) in steps {
                if !joins {
                    roster.leave(WorkerId(worker));
                    continue;
                }
                let parent = join(&mut roster, worker, hands_on).map(WorkerId);
                let siblings = roster.places.values().filter(|place| place.parent == parent).count();
                match parent {
                    Some(parent) => {
                        prop_assert!(parent != WorkerId(worker) && roster.places[&parent].address.is_some());
                        prop_assert!(siblings <= fan_out as usize);
                    }
                    None => {
                        let has_room = |(relay, place): (&WorkerId, &Place<u64>)| {
                            let below = roster.places.values().filter(|place| place.parent == Some(*relay)).count();
                            *relay != WorkerId(worker) && place.address.is_some() && below < fan_out as usize
                        };
                        prop_assert!(siblings <= fan_out as usize || !roster.places.iter().any(has_room));
                    }
                }
            }
        }
    }
}
