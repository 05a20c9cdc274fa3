//! Sets of group ids that are dense from 0 on, with a few gaps near the end: "which groups have arrived".

use crate::ids::GroupId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, ops::Range};

/// All groups below a number, and some above it. Grows by insertion only.
///
/// Its size is that of the part above the first gap, which a schedule bounds, not of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct GroupSet {
    below: u64,
    above: BTreeSet<u64>,
}

/// A set as it is read, which need not be as it was written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    below: u64,
    above: BTreeSet<u64>,
}

impl From<Written> for GroupSet {
    fn from(Written { below, above }: Written) -> Self {
        Self::new(below, above)
    }
}

impl GroupSet {
    /// All groups below `end`.
    pub fn below(end: u64) -> Self {
        Self { below: end, above: BTreeSet::new() }
    }

    /// All groups below `end`, and `others` wherever they lie.
    pub fn new(end: u64, others: impl IntoIterator<Item = u64>) -> Self {
        let mut set = Self::below(end);
        for group in others {
            set.insert(GroupId(group));
        }
        set
    }

    /// Adds a group; false if it was there.
    pub fn insert(&mut self, group: GroupId) -> bool {
        if group.0 < self.below || !self.above.insert(group.0) {
            return false;
        }
        // Whoever names the largest number there is gets it into the set, and no number after it.
        while self.below < u64::MAX && self.above.remove(&self.below) {
            self.below += 1;
        }
        true
    }

    /// Whether a group is in the set.
    pub fn contains(&self, group: GroupId) -> bool {
        group.0 < self.below || self.above.contains(&group.0)
    }

    /// Whether every group of `range` is in the set.
    pub fn contains_all(&self, range: Range<u64>) -> bool {
        let start = range.start.max(self.below);
        start >= range.end || self.above.range(start..range.end).count() as u64 == range.end - start
    }

    /// Number of groups in the set; of all there are, the largest number there is.
    pub fn len(&self) -> u64 {
        self.below.saturating_add(self.above.len() as u64)
    }

    /// Whether the set has no group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first group that is not in the set.
    pub fn first_gap(&self) -> u64 {
        self.below
    }

    /// The groups behind the first gap, ascending.
    pub fn behind_gap(&self) -> impl Iterator<Item = u64> {
        self.above.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_number_there_is_overflows_nothing() {
        let mut set = GroupSet::below(u64::MAX - 1);
        assert!(set.insert(GroupId(u64::MAX)) && set.insert(GroupId(u64::MAX - 1)));
        assert!(set.contains(GroupId(u64::MAX)) && !set.insert(GroupId(u64::MAX)));
        assert_eq!(set.len(), u64::MAX);
    }

    #[test]
    fn a_set_that_is_read_is_the_same_however_it_was_written() {
        let read = |text: &str| serde_json::from_str::<GroupSet>(text).unwrap();
        assert_eq!(read(r#"{"below": 6, "above": [1, 6, 9]}"#), GroupSet::new(7, [9]));
        assert_eq!(read(&serde_json::to_string(&GroupSet::new(7, [9])).unwrap()), GroupSet::new(7, [9]));
    }

    proptest! {
        #[test]
        fn the_set_is_the_set_of_what_was_inserted(groups in prop::collection::vec(0u64..40, 0..80), start in 0u64..10) {
            let mut set = GroupSet::below(start);
            let mut plain: BTreeSet<u64> = (0..start).collect();
            for group in groups {
                prop_assert_eq!(set.insert(GroupId(group)), plain.insert(group));
                prop_assert_eq!(set.len(), plain.len() as u64);
                prop_assert!(!set.contains(GroupId(set.first_gap())));
                for (from, to) in [(0, 5), (3, 9), (group, group + 1), (7, 40)] {
                    prop_assert_eq!(set.contains_all(from..to), (from..to).all(|group| plain.contains(&group)));
                }
            }
            prop_assert_eq!(GroupSet::new(set.first_gap(), set.behind_gap()), set);
        }
    }
}
