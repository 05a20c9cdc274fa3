//! Who hands policies to whom.
//!
//! ```text
//! learner --> 0 --> 2, 3
//!         \-> 1 --> 4, 5         fan-out 2; worker k takes from worker k / 2 - 1, the first two from the learner
//! ```
//!
//! Counting the learner as node 0 and worker k as node k + 1, the parent of node n is node (n - 1) / fan-out: a heap. Nobody
//! sends to more than the fan-out, and the last of N workers is about log N hops away.

use std::num::NonZeroU32;

/// The worker that worker `index` takes policies from; `None` if it is the learner.
pub fn parent(index: u64, fan_out: NonZeroU32) -> Option<u64> {
    (index / u64::from(fan_out.get())).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_picture_is_true() {
        let parents: Vec<Option<u64>> = (0..6).map(|worker| parent(worker, 2.try_into().unwrap())).collect();
        assert_eq!(parents, [None, None, Some(0), Some(0), Some(1), Some(1)]);
    }

    proptest! {
        #[test]
        fn nobody_sends_to_more_than_the_fan_out_and_everybody_hangs_on_the_learner_by_few_hops(
            workers in 1u64..2000, fan_out in 1u32..9,
        ) {
            let fan_out: NonZeroU32 = fan_out.try_into().unwrap();
            let mut children: BTreeMap<Option<u64>, u32> = BTreeMap::new();
            let mut hops: Vec<u32> = vec![];
            for worker in 0..workers {
                let parent = parent(worker, fan_out);
                *children.entry(parent).or_default() += 1;
                prop_assert!(parent.is_none_or(|parent| parent < worker), "a parent joined before its children");
                hops.push(parent.map_or(1, |parent| hops[parent as usize] + 1));
            }
            prop_assert!(children.values().all(|&count| count <= fan_out.get()));
            if fan_out.get() > 1 {
                prop_assert!(hops.iter().all(|&hops| hops <= (workers + 1).ilog2() + 1));
            }
        }
    }
}
