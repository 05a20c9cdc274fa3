//! Where the arrays of a tree lie in its words.

use super::file::HEADER_WORDS;
use std::ops::Range;

/// Number of arrays.
const ARRAYS: usize = 10;

/// Words of the marks of 64 nodes: a number and 64 bits.
pub(super) const MARK_WORDS: usize = 3;

/// An array of the tree, in the order of the file. See the module documentation of the tree for what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    HeadToken,
    LinkToken,
    FirstLink,
    LinkMarks,
    ChoiceMarks,
    FirstHead,
    SharedLeaf,
    SharedMore,
    LeafItem,
    ItemLeaf,
}

/// How many there are of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Chains, and with them heads.
    pub(super) chains: u32,
    pub(super) links: u32,
    /// Chains that end in a choice.
    pub(super) choices: u32,
    /// Leaves of several items.
    pub(super) shared: u32,
    pub(super) items: u32,
}

/// Sizes and the start of each array, in words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) sizes: Sizes,
    starts: [usize; ARRAYS + 1],
}

impl Sizes {
    pub(super) fn leaves(&self) -> u32 {
        self.chains - self.choices
    }

    /// Whether a tree can have these sizes.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { chains, links, choices, shared, items } = *self;
        let nodes = u64::from(chains) + u64::from(links);
        let leaves = chains.saturating_sub(choices);
        let possible = nodes >= 2
            && nodes <= u64::from(u32::MAX)
            && leaves > choices
            && shared <= leaves
            && u64::from(items) >= u64::from(leaves) + u64::from(shared);
        match possible {
            true => Ok(()),
            false => Err(format!(
                "{nodes} nodes, {chains} chains, {choices} choices, {shared} shared leaves and {items} items are impossible together"
            )),
        }
    }
}

impl Layout {
    pub(super) fn new(sizes: Sizes) -> Self {
        let [chains, links, choices, shared, items] =
            [sizes.chains, sizes.links, sizes.choices, sizes.shared, sizes.items].map(|size| size as usize);
        let marks = |nodes: usize| MARK_WORDS * nodes.div_ceil(64);
        let lengths = [
            chains.saturating_sub(1),
            links,
            chains + 1,
            marks(links),
            marks(chains),
            choices + 1,
            shared,
            shared,
            items,
            items,
        ];
        let mut starts = [HEADER_WORDS; ARRAYS + 1];
        for (array, length) in lengths.into_iter().enumerate() {
            starts[array + 1] = starts[array] + length;
        }
        Self { sizes, starts }
    }

    /// Words of the whole file.
    pub(super) fn num_words(&self) -> usize {
        self.starts[ARRAYS]
    }

    /// The words of an array.
    #[inline]
    pub(super) fn range(&self, section: Section) -> Range<usize> {
        let array = section as usize;
        self.starts[array]..self.starts[array + 1]
    }

    /// All arrays of `words`, to be filled, in the order of the file.
    pub(super) fn split<'w>(&self, words: &'w mut [u32]) -> [&'w mut [u32]; ARRAYS] {
        let mut rest = &mut words[HEADER_WORDS..];
        std::array::from_fn(|array| {
            let (section, after) = std::mem::take(&mut rest).split_at_mut(self.starts[array + 1] - self.starts[array]);
            rest = after;
            section
        })
    }
}
