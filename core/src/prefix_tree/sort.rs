//! Sorting items by their spellings, in parallel: several tokens at a time as one key, and then only what is still tied.

use rayon::prelude::*;
use std::{cmp::Ordering, ops::Range};

/// Runs up to this length are compared token by token.
const SHORT: usize = 24;
/// Runs from this length on are sorted by several threads.
const LONG: usize = 1 << 15;

/// An item and some tokens of its spelling, packed so that keys compare like the tokens.
type Keyed = (u64, u32);

/// The items in the order of their spellings; those spelled alike ascend.
pub(super) fn sorted<P: AsRef<[u32]> + Sync>(paths: &[P], largest_token: u32) -> Vec<u32> {
    let bits = (u32::BITS - largest_token.leading_zeros()).max(1);
    let sorter = Sorter { paths, bits, tokens: (u64::BITS / bits) as usize };
    let mut items: Vec<Keyed> = (0..paths.len() as u32).map(|item| (0, item)).collect();
    let mut tied: Vec<Range<usize>> = std::iter::once(0..items.len()).collect();
    let mut depth = 0;
    while !tied.is_empty() {
        tied = split(&mut items, &tied).into_par_iter().flat_map_iter(|run| sorter.sort(run, depth)).collect();
        depth += sorter.tokens;
    }
    items.into_iter().map(|(_, item)| item).collect()
}

/// A part of the items that starts at a place among all.
struct Run<'a> {
    start: usize,
    items: &'a mut [Keyed],
}

/// The runs of `items` that lie at `places`, which ascend.
fn split<'a>(mut items: &'a mut [Keyed], places: &[Range<usize>]) -> Vec<Run<'a>> {
    let mut passed = 0;
    let run = |place: &Range<usize>| {
        let (_, rest) = std::mem::take(&mut items).split_at_mut(place.start - passed);
        let (run, rest) = rest.split_at_mut(place.len());
        (items, passed) = (rest, place.end);
        Run { start: place.start, items: run }
    };
    places.iter().map(run).collect()
}

struct Sorter<'p, P> {
    paths: &'p [P],
    /// Bits of a token.
    bits: u32,
    /// Tokens of a key.
    tokens: usize,
}

impl<P: AsRef<[u32]> + Sync> Sorter<'_, P> {
    fn path(&self, item: u32) -> &[u32] {
        self.paths[item as usize].as_ref()
    }

    /// Sorts a run, whose spellings begin with the same `depth` tokens, by the next few; returns what is still tied.
    fn sort(&self, run: Run<'_>, depth: usize) -> Vec<Range<usize>> {
        let Run { start, items } = run;
        if items.len() <= SHORT {
            items.sort_unstable_by(|a, b| self.compare(a.1, b.1, depth));
            return vec![];
        }
        let fill = |keyed: &mut Keyed| {
            let path = self.path(keyed.1);
            let next = path.get(depth..).unwrap_or_default().iter().copied().chain(std::iter::repeat(0));
            keyed.0 = next.take(self.tokens).fold(0, |key, token| key << self.bits | u64::from(token));
            path.len() <= depth
        };
        let has_ended = if items.len() < LONG {
            items.iter_mut().fold(false, |ended, keyed| fill(keyed) | ended)
        } else {
            items.par_iter_mut().with_min_len(1024).map(fill).reduce(|| false, |a, b| a | b)
        };
        // An item that ends here looks in a key as if it went on with token 0.
        match (has_ended, items.len() < LONG) {
            (true, _) => {
                items.par_sort_unstable_by(|a, b| self.compare(a.1, b.1, depth));
                return vec![];
            }
            (false, true) => items.sort_unstable(),
            (false, false) => items.par_sort_unstable(),
        }
        let mut end = start;
        let ends = items.chunk_by(|a, b| a.0 == b.0).map(|alike| {
            end += alike.len();
            end - alike.len()..end
        });
        ends.filter(|alike| alike.len() > 1).collect()
    }

    /// Order of two items whose spellings begin with the same `depth` tokens, as far as they go.
    fn compare(&self, a: u32, b: u32, depth: usize) -> Ordering {
        let (of_a, of_b) = (self.path(a), self.path(b));
        let same = depth.min(of_a.len()).min(of_b.len());
        of_a[same..].cmp(&of_b[same..]).then(a.cmp(&b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_the_spellings_and_then_of_the_items(
            paths in prop::collection::vec(prop::collection::vec(0u32..3, 1..9), 1..300), widest in 2u32..40,
        ) {
            let largest = 1u32.checked_shl(widest).map_or(u32::MAX, |power| power - 1).max(2);
            let mut expected: Vec<u32> = (0..paths.len() as u32).collect();
            expected.sort_by_key(|&item| (&paths[item as usize], item));
            prop_assert_eq!(sorted(&paths, largest), expected);
        }
    }
}
