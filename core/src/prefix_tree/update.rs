//! A tree with items added, removed and moved, made from the tree before without sorting or spelling what stays.
//!
//! Chains with a change at or below them are *touched* and made again, token by token. The others are copied: chains are
//! numbered breadth first, so the untouched ones behind an untouched run of chains are again a run, and a small change leaves few
//! and long runs. What is left per item is its new index.

mod merge;

use super::{
    BuildError, MAX_ITEM_TOKENS, PrefixTree,
    draft::{Arrays, Draft, LeafItems},
    layout::{Section, Sizes},
    marks,
};
use crate::ids::ItemIndex;
use merge::{Ending, Merge, Merged, Piece};
use std::ops::Range;

/// Why a tree cannot be updated so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UpdateError {
    /// Another number of places than of items.
    #[error("{got} places for {expected} items")]
    Places {
        /// Places given.
        got: usize,
        /// Items of the tree.
        expected: usize,
    },
    /// An index of the new list that is given twice, or lies outside of it.
    #[error("index {index} is given twice or does not lie in the new list of {items} items")]
    Index {
        /// The index.
        index: u32,
        /// Items that stay and items that are added.
        items: usize,
    },
    /// The new items make no tree; items are named by their index in the new list.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// An added item: its spelling and its index in the new list.
type Added<'p> = (&'p [u32], u32);

impl PrefixTree {
    /// The tree of another list of items: `places[i]` is the index that item `i` has in the new list, `None` if it goes, and `added`
    /// are the items that come, each with its index and its spelling, end token included. The result is the tree that
    /// [`build`](Self::build) makes of the new list, byte for byte.
    ///
    /// # Errors
    /// [`UpdateError`] names the index that is wrong or the item that cannot be placed.
    pub fn updated<P: AsRef<[u32]>>(
        &self,
        places: &[Option<ItemIndex>],
        added: &[(ItemIndex, P)],
    ) -> Result<Self, UpdateError> {
        let added = self.check_update(places, added)?;
        let merged = Merge::new(self, places, &added).run()?;
        let lists = self.lists(places, &added, &merged);
        let (mut chains, mut choices, mut links) = (0_u64, 0, 0_u64);
        for piece in &merged.pieces {
            match piece {
                Piece::Same(run) => {
                    chains += run.len() as u64;
                    choices += self.choices_of(run).len() as u32;
                    links += self.links_of(run).len() as u64;
                }
                Piece::New(chain) => {
                    chains += 1;
                    choices += u32::from(matches!(chain.ending, Ending::Choice { .. }));
                    links += chain.links.len() as u64;
                }
            }
        }
        let too_large = |_| UpdateError::Build(BuildError::TooLarge);
        let sizes = Sizes {
            chains: u32::try_from(chains).map_err(too_large)?,
            links: u32::try_from(links).map_err(too_large)?,
            choices,
            shared: lists.shared_leaf.len() as u32,
            items: lists.leaf_item.len() as u32,
        };
        sizes.check().map_err(|_| BuildError::TooLarge)?;
        let mut draft = Draft::new(sizes);
        self.fill(draft.arrays(), &merged);
        let arrays = draft.arrays();
        arrays.leaf_item.copy_from_slice(&lists.leaf_item);
        arrays.shared_leaf.copy_from_slice(&lists.shared_leaf);
        arrays.shared_more.copy_from_slice(&lists.shared_more);
        drop((lists, merged));
        Ok(draft.finish())
    }

    /// The added items in the order of their spellings, if every index of the new list is given once.
    fn check_update<'p, P: AsRef<[u32]>>(
        &self,
        places: &[Option<ItemIndex>],
        added: &'p [(ItemIndex, P)],
    ) -> Result<Vec<Added<'p>>, UpdateError> {
        if places.len() != self.num_items() {
            return Err(UpdateError::Places { got: places.len(), expected: self.num_items() });
        }
        let items = places.iter().flatten().count() + added.len();
        match items {
            0 => return Err(BuildError::Empty.into()),
            _ if items >= u32::MAX as usize => return Err(BuildError::TooLarge.into()),
            _ => {}
        }
        let mut is_given = vec![false; items];
        for index in places.iter().flatten().chain(added.iter().map(|(index, _)| index)) {
            match is_given.get_mut(index.0 as usize) {
                Some(is_given) if !*is_given => *is_given = true,
                _ => return Err(UpdateError::Index { index: index.0, items }),
            }
        }
        let mut sorted: Vec<Added<'p>> = added.iter().map(|(index, path)| (path.as_ref(), index.0)).collect();
        for &(path, item) in &sorted {
            match path.len() {
                0 => return Err(BuildError::EmptyItem { item }.into()),
                tokens if tokens > MAX_ITEM_TOKENS => return Err(BuildError::TooLong { item, tokens }.into()),
                _ => {}
            }
        }
        sorted.sort_unstable();
        Ok(sorted)
    }

    /// The choices at the ends of a run of chains.
    pub(super) fn choices_of(&self, run: &Range<u32>) -> Range<u32> {
        self.choices_before(run.start)..self.choices_before(run.end)
    }

    pub(super) fn choices_before(&self, chain: u32) -> u32 {
        let sizes = &self.layout.sizes;
        if chain == sizes.chains { sizes.choices } else { self.choices().rank(chain as usize).1 }
    }

    fn links_of(&self, run: &Range<u32>) -> Range<usize> {
        let first_link = self.array(Section::FirstLink);
        first_link[run.start as usize] as usize..first_link[run.end as usize] as usize
    }

    /// The items of all leaves of the new tree, by their new indices.
    fn lists(&self, places: &[Option<ItemIndex>], added: &[Added<'_>], merged: &Merged) -> Lists {
        let mut lists = Lists::default();
        let leaf_item = self.array(Section::LeafItem);
        let stayed = |item: &u32| places[*item as usize].map(|place| place.0);
        for piece in &merged.pieces {
            match piece {
                Piece::Same(run) => {
                    let choices = self.choices_of(run);
                    let first_leaf = run.start - choices.start;
                    let leaves = run.len() - choices.len();
                    let (shared_leaf, shared_more) = (self.array(Section::SharedLeaf), self.array(Section::SharedMore));
                    let mut items = LeafItems::starting_at(first_leaf, shared_leaf, shared_more);
                    (0..leaves).for_each(|_| lists.push(leaf_item[items.next()].iter().filter_map(stayed)));
                }
                Piece::New(chain) => {
                    if let Ending::Leaf { old, added: new } = &chain.ending {
                        let old = old.map_or(&[][..], |leaf| self.items_at(leaf)).iter().map(|item| item.0);
                        let new = added[new.clone()].iter().map(|&(_, item)| item);
                        lists.push(old.filter_map(|item| stayed(&item)).chain(new));
                    }
                }
            }
        }
        lists
    }

    /// Copies and writes chain after chain.
    fn fill(&self, arrays: Arrays<'_>, merged: &Merged) {
        let [old_heads, old_links, old_first_link, old_first_head] =
            [Section::HeadToken, Section::LinkToken, Section::FirstLink, Section::FirstHead].map(|it| self.array(it));
        let Arrays { head_token, link_token, first_link, choice_marks, first_head, .. } = arrays;
        let (mut chain, mut links, mut choice) = (0, 0, 0);
        first_head[0] = 1;
        for piece in &merged.pieces {
            match piece {
                Piece::Same(run) => {
                    let old = run.start as usize..run.end as usize;
                    // The root has no token.
                    let skipped = usize::from(chain == 0);
                    head_token[chain + skipped - 1..chain + old.len() - 1]
                        .copy_from_slice(&old_heads[old.start + skipped - 1..old.end - 1]);
                    let own = self.links_of(run);
                    link_token[links..links + own.len()].copy_from_slice(&old_links[own.clone()]);
                    for (new, &end) in first_link[chain + 1..].iter_mut().zip(&old_first_link[old.start + 1..=old.end])
                    {
                        *new = (links + end as usize - own.start) as u32;
                    }
                    let marked = old.clone().filter(|&chain| self.choices().is_marked(chain));
                    marked.for_each(|marked| marks::mark(choice_marks, chain + marked - old.start));
                    for k in self.choices_of(run) {
                        first_head[choice + 1] =
                            first_head[choice] + old_first_head[k as usize + 1] - old_first_head[k as usize];
                        choice += 1;
                    }
                    chain += old.len();
                    links += own.len();
                }
                Piece::New(new) => {
                    if chain > 0 {
                        head_token[chain - 1] = new.head;
                    }
                    let own = &merged.links[new.links.clone()];
                    link_token[links..links + own.len()].copy_from_slice(own);
                    links += own.len();
                    first_link[chain + 1] = links as u32;
                    if let Ending::Choice { heads } = new.ending {
                        marks::mark(choice_marks, chain);
                        first_head[choice + 1] = first_head[choice] + heads;
                        choice += 1;
                    }
                    chain += 1;
                }
            }
        }
    }
}

/// Items of leaves in the making.
#[derive(Default)]
struct Lists {
    leaf_item: Vec<u32>,
    shared_leaf: Vec<u32>,
    shared_more: Vec<u32>,
    leaf: u32,
}

impl Lists {
    /// Adds the items of the next leaf.
    fn push(&mut self, items: impl Iterator<Item = u32>) {
        let start = self.leaf_item.len();
        self.leaf_item.extend(items);
        if self.leaf_item.len() > start + 1 {
            self.leaf_item[start..].sort_unstable();
            self.shared_leaf.push(self.leaf);
            self.shared_more.push((self.leaf_item.len() - 1) as u32 - self.leaf);
        }
        self.leaf += 1;
    }
}

#[cfg(test)]
mod tests;
