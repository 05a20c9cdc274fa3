//! Which chains of the old tree stay as they are, and what the others become.

use super::Added;
use crate::{
    ids::{ItemIndex, NodeId},
    prefix_tree::{BuildError, PrefixTree, layout::Section},
};
use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

/// A part of the new tree's chains.
pub(super) enum Piece {
    /// Old chains, with everything behind them.
    Same(Range<u32>),
    /// A chain that was not there.
    New(NewChain),
}

pub(super) struct NewChain {
    /// Token into the head; the root's means nothing.
    pub(super) head: u32,
    /// Place of its links among [`Merged::links`].
    pub(super) links: Range<usize>,
    pub(super) ending: Ending,
}

pub(super) enum Ending {
    Choice {
        heads: u32,
    },
    Leaf {
        /// The old leaf of this spelling.
        old: Option<NodeId>,
        /// Added items of this spelling.
        added: Range<usize>,
    },
}

/// The chains of the new tree in their order.
pub(super) struct Merged {
    pub(super) pieces: Vec<Piece>,
    /// Tokens of the links of new chains.
    pub(super) links: Vec<u32>,
}

pub(super) struct Merge<'a> {
    tree: &'a PrefixTree,
    places: &'a [Option<ItemIndex>],
    added: &'a [Added<'a>],
    /// Chains with a change at or behind them.
    touched: HashSet<u32>,
    /// Those of them behind which no item stays.
    gone: HashSet<u32>,
}

/// One way to go on.
struct Branch {
    token: u32,
    /// The old node there, if an item below it stays.
    old: Option<NodeId>,
    /// The added items that go there.
    added: Range<usize>,
}

/// What is to be done at the next level.
enum Open {
    Same(Range<u32>),
    /// A chain that begins behind `depth` tokens.
    Changed {
        branch: Branch,
        depth: usize,
    },
}

impl<'a> Merge<'a> {
    /// `added` is sorted.
    pub(super) fn new(tree: &'a PrefixTree, places: &'a [Option<ItemIndex>], added: &'a [Added<'a>]) -> Self {
        let mut merge = Self { tree, places, added, touched: HashSet::new(), gone: HashSet::new() };
        merge.remove();
        for (path, _) in added {
            merge.touched.insert(0);
            let steps = path.iter().scan(PrefixTree::ROOT, |node, &token| {
                *node = tree.step(*node, token)?;
                Some(node.0)
            });
            merge.touched.extend(steps.filter(|&node| node < tree.num_chains() as u32));
        }
        merge
    }

    /// Finds what is gone, from the leaves up.
    fn remove(&mut self) {
        let tree = self.tree;
        let removed = (0..).zip(self.places).filter(|(_, place)| place.is_none());
        let leaves: HashSet<NodeId> = removed.map(|(item, _)| tree.leaf_of(ItemIndex(item))).collect();
        let gone = |leaf: &NodeId| tree.items_at(*leaf).iter().all(|item| self.places[item.0 as usize].is_none());
        // How many of what each chain leads to are gone. A chain comes after those it hangs on, so the last comes first.
        let mut open: BTreeMap<u32, usize> =
            leaves.into_iter().filter(gone).map(|leaf| (tree.chain_at(leaf), 1)).collect();
        while let Some((chain, gone)) = open.pop_last() {
            self.touched.insert(chain);
            let is_gone = gone == tree.heads_behind(chain).len().max(1);
            if is_gone {
                self.gone.insert(chain);
            }
            if let Some(parent) = tree.parent(NodeId(chain)) {
                *open.entry(tree.chain_at(parent)).or_default() += usize::from(is_gone);
            }
        }
    }

    /// # Errors
    /// [`BuildError::EndsInside`].
    pub(super) fn run(self) -> Result<Merged, BuildError> {
        let mut merged = Merged { pieces: vec![], links: vec![] };
        let old = (!self.gone.contains(&0)).then_some(PrefixTree::ROOT);
        let mut level = vec![self.open(Branch { token: 0, old, added: 0..self.added.len() }, 0)];
        while !level.is_empty() {
            let mut next = vec![];
            for open in level {
                match open {
                    Open::Same(run) => {
                        let choices = self.tree.choices_of(&run);
                        let first_head = self.tree.array(Section::FirstHead);
                        let heads = first_head[choices.start as usize]..first_head[choices.end as usize];
                        if !heads.is_empty() {
                            push(&mut next, Open::Same(heads));
                        }
                        merged.pieces.push(Piece::Same(run));
                    }
                    Open::Changed { branch, depth } => {
                        let chain = self.grow(branch, depth, &mut merged.links, &mut next)?;
                        merged.pieces.push(Piece::New(chain));
                    }
                }
            }
            level = next;
        }
        Ok(merged)
    }

    fn open(&self, branch: Branch, depth: usize) -> Open {
        let is_head = |node: &NodeId| (node.0 as usize) < self.tree.num_chains();
        match branch.old.filter(is_head) {
            Some(head) if branch.added.is_empty() && !self.touched.contains(&head.0) => Open::Same(head.0..head.0 + 1),
            _ => Open::Changed { branch, depth },
        }
    }

    /// Follows a new chain to its end and appends what comes behind it.
    fn grow(
        &self,
        branch: Branch,
        mut depth: usize,
        links: &mut Vec<u32>,
        next: &mut Vec<Open>,
    ) -> Result<NewChain, BuildError> {
        let (head, first_link) = (branch.token, links.len());
        let Branch { mut old, mut added, .. } = branch;
        let mut branches = vec![];
        let ending = loop {
            self.branches(old, added.clone(), depth, &mut branches)?;
            match branches.len() {
                0 => break Ending::Leaf { old, added },
                1 => {
                    let only = branches.remove(0);
                    links.push(only.token);
                    (old, added) = (only.old, only.added);
                    depth += 1;
                }
                heads => {
                    for branch in branches.drain(..) {
                        push(next, self.open(branch, depth + 1));
                    }
                    break Ending::Choice { heads: heads as u32 };
                }
            }
        };
        Ok(NewChain { head, links: first_link..links.len(), ending })
    }

    /// The ways to go on from an old node and with added items that share `depth` tokens, in token order; none at a leaf.
    fn branches(
        &self,
        old: Option<NodeId>,
        added: Range<usize>,
        depth: usize,
        branches: &mut Vec<Branch>,
    ) -> Result<(), BuildError> {
        branches.clear();
        let children = old.map(|node| self.tree.children(node));
        let old_branches = children.iter().flat_map(|children| {
            let nodes = (0..children.tokens.len()).map(|k| children.node(k));
            children.tokens.iter().copied().zip(nodes).filter(|(_, node)| !self.gone.contains(&node.0))
        });
        let mut old_branches = old_branches.peekable();
        let items = &self.added[added.clone()];
        let old_ends = old.filter(|_| children.is_some_and(|children| children.tokens.is_empty()));
        match (items.first(), items.last(), old) {
            (Some(&(first, item)), Some(&(last, other)), _) if first.len() == depth && last.len() > depth => {
                return Err(BuildError::EndsInside { item, other });
            }
            (Some(&(first, item)), _, Some(node)) if first.len() == depth && old_ends.is_none() => {
                return Err(BuildError::EndsInside { item, other: self.item_below(node) });
            }
            (Some(&(first, other)), _, Some(node)) if first.len() > depth && old_ends.is_some() => {
                return Err(BuildError::EndsInside { item: self.item_below(node), other });
            }
            (Some(&(first, _)), ..) if first.len() == depth => return Ok(()),
            _ => {}
        }
        let mut start = added.start;
        for run in items.chunk_by(|a, b| a.0[depth] == b.0[depth]) {
            let token = run[0].0[depth];
            while let Some((token, node)) = old_branches.next_if(|old| old.0 < token) {
                branches.push(Branch { token, old: Some(node), added: 0..0 });
            }
            let old = old_branches.next_if(|old| old.0 == token).map(|old| old.1);
            branches.push(Branch { token, old, added: start..start + run.len() });
            start += run.len();
        }
        branches.extend(old_branches.map(|(token, node)| Branch { token, old: Some(node), added: 0..0 }));
        Ok(())
    }

    /// New index of an item that stays, below a node that is not gone.
    fn item_below(&self, mut node: NodeId) -> u32 {
        loop {
            let children = self.tree.children(node);
            let mut nodes = (0..children.tokens.len()).map(|k| children.node(k));
            match nodes.find(|node| !self.gone.contains(&node.0)) {
                Some(child) => node = child,
                None => break,
            }
        }
        let stayed = self.tree.items_at(node).iter().find_map(|item| self.places[item.0 as usize]);
        stayed.expect("an item stays below a node that is not gone").0
    }
}

/// Appends, and joins runs that lie side by side.
fn push(level: &mut Vec<Open>, open: Open) {
    match (level.last_mut(), &open) {
        (Some(Open::Same(run)), Open::Same(more)) if run.end == more.start => run.end = more.end,
        _ => level.push(open),
    }
}

impl PrefixTree {
    /// The chain that a node is of.
    fn chain_at(&self, node: NodeId) -> u32 {
        match (node.0 as usize).checked_sub(self.num_chains()) {
            Some(link) => self.chain_of(link) as u32,
            None => node.0,
        }
    }

    /// The heads of the choice at the end of a chain; none if it ends in a leaf.
    fn heads_behind(&self, chain: u32) -> Range<u32> {
        let first_head = self.array(Section::FirstHead);
        match self.choices().rank(chain as usize) {
            (true, choice) => first_head[choice as usize]..first_head[choice as usize + 1],
            (false, _) => 0..0,
        }
    }
}
