//! A tree in the making: its words are laid out, and some of its arrays follow from the others.

use super::{
    PrefixTree, file,
    layout::{Layout, MARK_WORDS, Sizes},
    marks::{self, Marks},
    words::Words,
};
use std::ops::Range;

/// Words with a layout, all zero at first.
pub(super) struct Draft {
    words: Vec<u32>,
    layout: Layout,
}

/// The arrays that say everything; the others are made from them.
pub(super) struct Arrays<'w> {
    /// `[chains - 1]`
    pub(super) head_token: &'w mut [u32],
    /// `[links]`
    pub(super) link_token: &'w mut [u32],
    /// `[chains + 1]`
    pub(super) first_link: &'w mut [u32],
    /// Blocks of 64 chains; only the bits are to be set.
    pub(super) choice_marks: &'w mut [u32],
    /// `[choices + 1]`
    pub(super) first_head: &'w mut [u32],
    /// `[shared]`
    pub(super) shared_leaf: &'w mut [u32],
    /// `[shared]`
    pub(super) shared_more: &'w mut [u32],
    /// `[items]`
    pub(super) leaf_item: &'w mut [u32],
}

impl Draft {
    pub(super) fn new(sizes: Sizes) -> Self {
        let layout = Layout::new(sizes);
        Self { words: vec![0; layout.num_words()], layout }
    }

    /// What is to be filled.
    pub(super) fn arrays(&mut self) -> Arrays<'_> {
        let [head_token, link_token, first_link, _, choice_marks, first_head, shared_leaf, shared_more, leaf_item, _] =
            self.layout.split(&mut self.words);
        Arrays { head_token, link_token, first_link, choice_marks, first_head, shared_leaf, shared_more, leaf_item }
    }

    /// Makes what follows from the filled arrays.
    pub(super) fn finish(mut self) -> PrefixTree {
        let [_, _, first_link, link_marks, choice_marks, _, shared_leaf, shared_more, leaf_item, item_leaf] =
            self.layout.split(&mut self.words);
        marks::count(choice_marks);
        let mut next_block = 0;
        for (chain, links) in first_link.windows(2).enumerate() {
            if links[0] < links[1] {
                marks::mark(link_marks, links[1] as usize - 1);
                while 64 * next_block < links[1] as usize {
                    link_marks[MARK_WORDS * next_block] = chain as u32;
                    next_block += 1;
                }
            }
        }
        let num_chains = first_link.len() - 1;
        let leaves = (0..num_chains).filter(|&chain| !Marks(choice_marks).is_marked(chain));
        let mut items = LeafItems::new(shared_leaf, shared_more);
        for chain in leaves {
            let node = end_of(first_link, chain);
            leaf_item[items.next()].iter().for_each(|&item| item_leaf[item as usize] = node);
        }
        file::seal(&mut self.words, &self.layout.sizes);
        PrefixTree { digest: file::digest_in(&self.words), words: Words::from(self.words), layout: self.layout }
    }
}

/// The last node of a chain.
#[inline]
pub(super) fn end_of(first_link: &[u32], chain: usize) -> u32 {
    let (start, end) = (first_link[chain], first_link[chain + 1]);
    if start < end { (first_link.len() - 1) as u32 + end - 1 } else { chain as u32 }
}

/// Goes through the leaves in order and tells where the items of each lie.
pub(super) struct LeafItems<'a> {
    shared_leaf: &'a [u32],
    shared_more: &'a [u32],
    leaf: u32,
    shared: usize,
    start: usize,
}

impl<'a> LeafItems<'a> {
    pub(super) fn new(shared_leaf: &'a [u32], shared_more: &'a [u32]) -> Self {
        Self::starting_at(0, shared_leaf, shared_more)
    }

    pub(super) fn starting_at(leaf: u32, shared_leaf: &'a [u32], shared_more: &'a [u32]) -> Self {
        let shared = shared_leaf.partition_point(|&other| other < leaf);
        let more = shared.checked_sub(1).map_or(0, |before| shared_more[before]);
        Self { shared_leaf, shared_more, leaf, shared, start: (leaf + more) as usize }
    }

    /// The place of the next leaf's items among all.
    pub(super) fn next(&mut self) -> Range<usize> {
        let start = self.start;
        self.start += 1;
        if self.shared_leaf.get(self.shared) == Some(&self.leaf) {
            let before = self.shared.checked_sub(1).map_or(0, |before| self.shared_more[before]);
            self.start += (self.shared_more[self.shared] - before) as usize;
            self.shared += 1;
        }
        self.leaf += 1;
        start..self.start
    }
}
