//! Building a tree: sort the items, see how much neighbours share, cut that into chains level by level, copy the tokens.

use super::{
    BuildError, MAX_ITEM_TOKENS, PrefixTree,
    draft::{Arrays, Draft},
    layout::Sizes,
    marks,
    sort::sorted,
};
use rayon::prelude::*;

/// Chains that one thread takes at a time.
const PART: usize = 1 << 13;

impl PrefixTree {
    /// Builds the tree, with all of rayon's threads; `paths[i]` spells item `i`, end token included. The result depends on nothing
    /// but `paths`.
    ///
    /// # Errors
    /// [`BuildError`] names the item that cannot be placed.
    pub fn build<P: AsRef<[u32]> + Sync>(paths: &[P]) -> Result<Self, BuildError> {
        let largest_token = check(paths)?;
        let order = sorted(paths, largest_token);
        let chains = cut(&compare_neighbours(paths, &order)?);
        let links = chains.chains.iter().map(|chain| u64::from(chain.links())).sum::<u64>();
        let sizes = Sizes {
            chains: u32::try_from(chains.chains.len()).map_err(|_| BuildError::TooLarge)?,
            links: u32::try_from(links).map_err(|_| BuildError::TooLarge)?,
            choices: chains.choices.len() as u32,
            shared: chains.chains.iter().filter(|chain| chain.items > 1).count() as u32,
            items: paths.len() as u32,
        };
        sizes.check().map_err(|_| BuildError::TooLarge)?;
        let mut draft = Draft::new(sizes);
        fill(draft.arrays(), paths, &order, &chains);
        drop((order, chains));
        Ok(draft.finish())
    }
}

/// Checks each item by itself; returns the largest token.
pub(super) fn check<P: AsRef<[u32]> + Sync>(paths: &[P]) -> Result<u32, BuildError> {
    if paths.is_empty() {
        return Err(BuildError::Empty);
    }
    // Places are counted in 32 bits, and the one after the last is one of them.
    if paths.len() >= u32::MAX as usize {
        return Err(BuildError::TooLarge);
    }
    let wrong = |(item, path): (usize, &P)| match (item as u32, path.as_ref().len()) {
        (item, 0) => Some(BuildError::EmptyItem { item }),
        (item, tokens) if tokens > MAX_ITEM_TOKENS => Some(BuildError::TooLong { item, tokens }),
        _ => None,
    };
    match paths.par_iter().enumerate().find_map_first(wrong) {
        Some(error) => Err(error),
        None => Ok(paths.par_iter().filter_map(|path| path.as_ref().iter().copied().max()).max().unwrap_or(0)),
    }
}

/// A spelling in the order of all: its length, and how many tokens it shares with the one before.
#[derive(Clone, Copy)]
struct Spelling {
    tokens: u16,
    shared: u16,
}

fn compare_neighbours<P: AsRef<[u32]> + Sync>(paths: &[P], order: &[u32]) -> Result<Vec<Spelling>, BuildError> {
    let path = |place: usize| paths[order[place] as usize].as_ref();
    let compare = |place: usize| {
        let before = place.checked_sub(1).map_or(&[][..], path);
        let shared = before.iter().zip(path(place)).take_while(|(a, b)| a == b).count();
        Spelling { tokens: path(place).len() as u16, shared: shared as u16 }
    };
    let spellings: Vec<Spelling> = (0..order.len()).into_par_iter().map(compare).collect();
    let goes_on = |pair: &[Spelling]| pair[1].shared == pair[0].tokens && pair[0].tokens < pair[1].tokens;
    match spellings.windows(2).position(goes_on) {
        Some(place) => Err(BuildError::EndsInside { item: order[place], other: order[place + 1] }),
        None => Ok(spellings),
    }
}

/// A chain, by the sorted items that pass it.
#[derive(Clone, Copy)]
struct Chain {
    /// Place of the first of them.
    first: u32,
    /// Their number; once cut, the number of items that end with the chain, 0 if it ends in a choice.
    items: u32,
    /// Tokens up to the head.
    depth: u16,
    /// Tokens up to the last link.
    end: u16,
}

/// All chains in their order, and the number of heads of each choice.
struct Chains {
    chains: Vec<Chain>,
    choices: Vec<u32>,
}

fn cut(spellings: &[Spelling]) -> Chains {
    let mut chains = vec![Chain { first: 0, items: spellings.len() as u32, depth: 0, end: 0 }];
    let mut choices = vec![];
    let mut level = 0..1;
    while !level.is_empty() {
        let cut_part = |part: &mut [Chain]| {
            let mut behind = Chains { chains: vec![], choices: vec![] };
            part.iter_mut().for_each(|chain| chain.cut(spellings, &mut behind));
            behind
        };
        let parts: Vec<Chains> = chains[level.clone()].par_chunks_mut(PART).map(cut_part).collect();
        level = level.end..level.end + parts.iter().map(|part| part.chains.len()).sum::<usize>();
        for part in parts {
            chains.extend(part.chains);
            choices.extend(part.choices);
        }
    }
    Chains { chains, choices }
}

impl Chain {
    /// Finds the end, where the items part or all are over; appends the chains behind it.
    fn cut(&mut self, spellings: &[Spelling], behind: &mut Chains) {
        let run = &spellings[self.first as usize..][..self.items as usize];
        // A sorted run shares what all of its neighbours share.
        self.end = run[1..].iter().map(|spelling| spelling.shared).min().unwrap_or(run[0].tokens);
        if self.end == run[0].tokens {
            return;
        }
        let heads = behind.chains.len();
        let mut start = 0;
        let ends = (1..run.len()).filter(|&place| run[place].shared == self.end).chain([run.len()]);
        for end in ends {
            let (first, items) = (self.first + start as u32, (end - start) as u32);
            behind.chains.push(Chain { first, items, depth: self.end + 1, end: 0 });
            start = end;
        }
        behind.choices.push((behind.chains.len() - heads) as u32);
        self.items = 0;
    }

    fn links(&self) -> u32 {
        u32::from(self.end - self.depth)
    }
}

fn fill<P: AsRef<[u32]> + Sync>(arrays: Arrays<'_>, paths: &[P], order: &[u32], Chains { chains, choices }: &Chains) {
    let Arrays { head_token, link_token, first_link, choice_marks, first_head, shared_leaf, shared_more, leaf_item } =
        arrays;
    let (mut leaf, mut shared, mut more, mut items) = (0, 0, 0, 0);
    for (index, chain) in chains.iter().enumerate() {
        first_link[index + 1] = first_link[index] + chain.links();
        if chain.items == 0 {
            marks::mark(choice_marks, index);
            continue;
        }
        let run = &order[chain.first as usize..][..chain.items as usize];
        leaf_item[items..items + run.len()].copy_from_slice(run);
        items += run.len();
        if run.len() > 1 {
            more += chain.items - 1;
            (shared_leaf[shared], shared_more[shared]) = (leaf, more);
            shared += 1;
        }
        leaf += 1;
    }
    first_head[0] = 1;
    for (choice, heads) in choices.iter().enumerate() {
        first_head[choice + 1] = first_head[choice] + heads;
    }
    copy_tokens(head_token, link_token, paths, order, chains);
}

fn copy_tokens<P: AsRef<[u32]> + Sync>(
    head_token: &mut [u32],
    mut link_token: &mut [u32],
    paths: &[P],
    order: &[u32],
    chains: &[Chain],
) {
    let path = |chain: &Chain| paths[order[chain.first as usize] as usize].as_ref();
    let mut take = |part: &[Chain]| {
        let links: u32 = part.iter().map(Chain::links).sum();
        let (links, rest) = std::mem::take(&mut link_token).split_at_mut(links as usize);
        link_token = rest;
        links
    };
    let (root, chains) = chains.split_at(1);
    take(root).copy_from_slice(&path(&root[0])[..root[0].end as usize]);
    let parts: Vec<_> =
        chains.chunks(PART).zip(head_token.chunks_mut(PART)).map(|(part, heads)| (part, heads, take(part))).collect();
    parts.into_par_iter().for_each(|(part, heads, mut links)| {
        for (chain, head) in part.iter().zip(heads) {
            let tokens = &path(chain)[chain.depth as usize - 1..chain.end as usize];
            *head = tokens[0];
            let (own, rest) = links.split_at_mut(tokens.len() - 1);
            own.copy_from_slice(&tokens[1..]);
            links = rest;
        }
    });
}
