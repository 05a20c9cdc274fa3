//! Marks on a row of nodes, with a number for every 64 of them that makes marks quick to count.

use super::layout::MARK_WORDS;

/// `[number | 64 bits]` for every 64 nodes; what the number is, is up to the array.
#[derive(Clone, Copy)]
pub(super) struct Marks<'a>(pub(super) &'a [u32]);

impl Marks<'_> {
    /// Whether `index` is marked.
    #[inline]
    pub(super) fn is_marked(self, index: usize) -> bool {
        self.0[MARK_WORDS * (index / 64) + 1 + index / 32 % 2] >> (index % 32) & 1 == 1
    }

    /// The number of a block.
    #[inline]
    pub(super) fn number(self, block: usize) -> u32 {
        self.0[MARK_WORDS * block]
    }

    #[inline]
    fn bits(self, block: usize) -> u64 {
        u64::from(self.0[MARK_WORDS * block + 1]) | u64::from(self.0[MARK_WORDS * block + 2]) << 32
    }

    /// The marked indices of a block, ascending.
    pub(super) fn in_block(self, block: usize) -> impl Iterator<Item = usize> {
        let mut bits = self.bits(block);
        std::iter::from_fn(move || {
            let bit = bits.trailing_zeros();
            (bits != 0).then(|| bits &= bits - 1).map(|()| 64 * block + bit as usize)
        })
    }

    pub(super) fn num_blocks(self) -> usize {
        self.0.len() / MARK_WORDS
    }

    /// Whether `index` is marked, and how many before it are, if numbers count the marks before their block.
    #[inline]
    pub(super) fn rank(self, index: usize) -> (bool, u32) {
        let (block, bit) = (index / 64, index % 64);
        let bits = self.bits(block);
        (bits >> bit & 1 == 1, self.number(block) + (bits & ((1 << bit) - 1)).count_ones())
    }

    /// The index of the mark that has `rank` marks before it, if numbers count the marks before their block.
    pub(super) fn select(self, rank: u32) -> usize {
        let (mut low, mut high) = (0, self.num_blocks());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if self.number(middle) <= rank { low = middle } else { high = middle }
        }
        let mut bits = self.bits(low);
        for _ in self.number(low)..rank {
            bits &= bits - 1;
        }
        64 * low + bits.trailing_zeros() as usize
    }
}

/// Marks `index`.
pub(super) fn mark(marks: &mut [u32], index: usize) {
    marks[MARK_WORDS * (index / 64) + 1 + index / 32 % 2] |= 1 << (index % 32);
}

/// Numbers each block by the marks before it.
pub(super) fn count(marks: &mut [u32]) {
    let mut before = 0;
    for block in marks.chunks_exact_mut(MARK_WORDS) {
        block[0] = before;
        before += block[1].count_ones() + block[2].count_ones();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rank_and_select_agree_with_counting(marked in prop::collection::vec(any::<bool>(), 1..400)) {
            let mut words = vec![0; MARK_WORDS * marked.len().div_ceil(64)];
            let indices: Vec<usize> = (0..marked.len()).filter(|&index| marked[index]).collect();
            indices.iter().for_each(|&index| mark(&mut words, index));
            count(&mut words);
            let marks = Marks(&words);
            for (index, &is_marked) in marked.iter().enumerate() {
                let before = indices.iter().filter(|&&other| other < index).count() as u32;
                prop_assert_eq!(marks.rank(index), (is_marked, before));
                prop_assert_eq!(marks.is_marked(index), is_marked);
            }
            for (rank, &index) in indices.iter().enumerate() {
                prop_assert_eq!(marks.select(rank as u32), index);
            }
        }
    }
}
