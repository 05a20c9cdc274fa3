//! The properties that make every later index access safe, for content that is intact but was written by someone else.

use super::{
    PrefixTree,
    draft::{LeafItems, end_of},
    layout::{MARK_WORDS, Section},
    marks::Marks,
};
use rayon::prelude::*;

/// Chains, choices or links that one thread checks at a time.
const PART: usize = 1 << 16;

impl PrefixTree {
    /// Proves that the arrays are those of a tree, as this program would write them. Sizes have been checked.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_offsets()?;
        self.check_choices()?;
        self.check_links()?;
        self.check_items()
    }

    fn check_offsets(&self) -> Result<(), String> {
        let sizes = &self.layout.sizes;
        let [first_link, first_head] = [Section::FirstLink, Section::FirstHead].map(|section| self.array(section));
        let runs = |array: &[u32], from: u32, to: u32, least: u32| {
            array.first() == Some(&from)
                && array.last() == Some(&to)
                && array.par_windows(2).with_min_len(PART).all(|pair| pair[1].checked_sub(pair[0]) >= Some(least))
        };
        if !runs(first_link, 0, sizes.links, 0) {
            return Err("the links of chains do not ascend".to_owned());
        }
        match runs(first_head, 1, sizes.chains, 2) {
            true => Ok(()),
            false => Err("the heads of choices do not ascend, or a choice has fewer than two".to_owned()),
        }
    }

    fn check_choices(&self) -> Result<(), String> {
        let (marks, first_head) = (self.choices(), self.array(Section::FirstHead));
        check_marks(marks, self.num_chains())?;
        let mut choice = 0;
        for block in 0..marks.num_blocks() {
            if marks.number(block) != choice {
                return Err(format!(
                    "block {block} of the choices counts {} before it, not {choice}",
                    marks.number(block)
                ));
            }
            for chain in marks.in_block(block) {
                // A choice leads to later chains only, so every walk ends.
                match first_head.get(choice as usize) {
                    Some(&head) if head as usize > chain => choice += 1,
                    _ => return Err(format!("choice {choice} at the end of chain {chain} leads back")),
                }
            }
        }
        if choice != self.layout.sizes.choices {
            return Err(format!("{choice} chains end in one of {} choices", self.layout.sizes.choices));
        }
        let head_token = self.array(Section::HeadToken);
        let ascend = |choice: &usize| {
            let heads = first_head[*choice] as usize - 1..first_head[*choice + 1] as usize - 1;
            head_token[heads].is_sorted_by(|a, b| a < b)
        };
        match (0..choice as usize).into_par_iter().with_min_len(PART).find_any(|choice| !ascend(choice)) {
            Some(choice) => Err(format!("tokens of choice {choice} do not ascend")),
            None => Ok(()),
        }
    }

    fn check_links(&self) -> Result<(), String> {
        let (marks, first_link) = (self.links(), self.array(Section::FirstLink));
        let num_links = self.layout.sizes.links as usize;
        check_marks(marks, num_links)?;
        let mut marked = 0;
        for block in 0..marks.num_blocks() {
            let first = 64 * block as u32;
            let chain = marks.number(block) as usize;
            if !first_link
                .get(chain..chain.saturating_add(2))
                .is_some_and(|links| (links[0]..links[1]).contains(&first))
            {
                return Err(format!("link {first} is not of chain {chain}"));
            }
            marked += marks.in_block(block).count();
        }
        // As many marks as chains with links, and one at the last link of each: there are no others.
        let mut with_links = 0;
        for (chain, links) in first_link.windows(2).enumerate() {
            if links[0] < links[1] {
                with_links += 1;
                if !marks.is_marked(links[1] as usize - 1) {
                    return Err(format!("the last link of chain {chain} is not marked"));
                }
            }
        }
        match marked == with_links {
            true => Ok(()),
            false => Err(format!("{marked} links are the last of {with_links} chains")),
        }
    }

    fn check_items(&self) -> Result<(), String> {
        let [shared_leaf, shared_more, leaf_item, item_leaf] =
            [Section::SharedLeaf, Section::SharedMore, Section::LeafItem, Section::ItemLeaf].map(|it| self.array(it));
        let (leaves, items) = (self.layout.sizes.leaves(), self.layout.sizes.items);
        let ascends = shared_leaf.is_sorted_by(|a, b| a < b) && shared_leaf.last().is_none_or(|&last| last < leaves);
        let grows = shared_more.first() != Some(&0) && shared_more.is_sorted_by(|a, b| a < b);
        if !ascends || !grows || shared_more.last().copied().unwrap_or(0) != items - leaves {
            return Err("the leaves of several items are inconsistent".to_owned());
        }
        let (choices, first_link) = (self.choices(), self.array(Section::FirstLink));
        let mut places = LeafItems::new(shared_leaf, shared_more);
        for chain in (0..self.num_chains()).filter(|&chain| !choices.is_marked(chain)) {
            let node = end_of(first_link, chain);
            let run = &leaf_item[places.next()];
            // Each place of the list is the leaf of its item, so no item is listed twice and none is missing.
            let listed = |&item: &u32| item_leaf.get(item as usize) == Some(&node);
            if !run.iter().all(listed) || !run.is_sorted_by(|a, b| a < b) {
                return Err(format!("items of leaf {node} are inconsistent"));
            }
        }
        Ok(())
    }
}

/// Marks behind the last node belong to nobody.
fn check_marks(marks: Marks<'_>, nodes: usize) -> Result<(), String> {
    debug_assert_eq!(marks.0.len(), MARK_WORDS * nodes.div_ceil(64), "the layout has marks for all nodes");
    match !nodes.is_multiple_of(64) && marks.in_block(nodes / 64).any(|marked| marked >= nodes) {
        true => Err("marks behind the last node".to_owned()),
        false => Ok(()),
    }
}
