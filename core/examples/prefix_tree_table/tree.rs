//! The life of the prefix tree: built, saved, opened, changed.

use crate::{
    generate,
    measure::{Figures, Seconds, Trie},
};
use riser_core::{
    ids::{ItemIndex, NodeId},
    prefix_tree::PrefixTree,
    synthetic::spellings::Spellings,
};
use std::hint::black_box;

/// Items that come, and items that go, in an update.
const CHANGED: usize = 1000;

pub(crate) const HEADER: &str = "\
Seconds by the wall / of all threads' processor time; shares are of the build's processor time.

| items | nodes | bytes/node | build s | peak beside items MB | save s | open and check s | 2,000 items change s (share) | 1 % changes s (share) |
|---|---|---|---|---|---|---|---|---|";

impl Trie for PrefixTree {
    type Node = NodeId;

    fn build(paths: &[&[u32]]) -> Self {
        PrefixTree::build(paths).unwrap()
    }

    fn bytes(&self) -> usize {
        self.num_bytes()
    }

    fn nodes(&self) -> usize {
        self.num_nodes()
    }

    fn root(&self) -> NodeId {
        Self::ROOT
    }

    fn step(&self, node: NodeId, token: u32) -> Option<NodeId> {
        PrefixTree::step(self, node, token)
    }

    fn children(&self, node: NodeId, tokens: &mut Vec<u32>) -> bool {
        tokens.extend_from_slice(PrefixTree::children(self, node).tokens);
        true
    }
}

/// One row.
pub(crate) fn life(kind: &str, spellings: &Spellings, rounds: usize) -> String {
    let paths = spellings.paths();
    let (first, tree) = Figures::of_build(|| PrefixTree::build(&paths).unwrap());
    let build = || drop(black_box(PrefixTree::build(&paths).unwrap()));
    let build = Seconds::of(rounds, build);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tree.bin");
    let save = Seconds::of(rounds, || tree.save(&file).unwrap());
    let open = Seconds::of(rounds, || drop(black_box(PrefixTree::open(&file).unwrap())));
    let opened = PrefixTree::open(&file).unwrap();
    drop(tree);
    let more = generate(kind, paths.len() + paths.len().div_ceil(100).max(CHANGED));
    let more = more.paths();
    let change = |changed: usize| {
        // Some items from all over the list go, the others move up, and the new ones come last.
        let every = paths.len() / changed;
        let mut stay = 0..;
        let stays = |item: usize| !item.is_multiple_of(every) || item / every >= changed;
        let places: Vec<_> =
            (0..paths.len()).map(|item| stays(item).then(|| ItemIndex(stay.next().unwrap()))).collect();
        let added: Vec<_> = (0..changed).map(|k| (ItemIndex(stay.next().unwrap()), more[paths.len() + k])).collect();
        let seconds = Seconds::of(rounds, || drop(black_box(opened.updated(&places, &added).unwrap())));
        let kept = (0..paths.len()).filter(|&item| stays(item)).map(|item| paths[item]);
        let list: Vec<&[u32]> = kept.chain(added.iter().map(|added| added.1)).collect();
        let digests = (opened.updated(&places, &added).unwrap().digest(), PrefixTree::build(&list).unwrap().digest());
        assert_eq!(digests.0, digests.1, "an updated tree is the tree that is built");
        seconds
    };
    let changes = [CHANGED, (paths.len() / 200).max(1)].map(change);
    let [few, percent] = changes.map(|seconds| format!("{seconds} ({:.2})", seconds.cpu / build.cpu));
    format!(
        "| {} {kind} | {} | {:.2} | {build} | {:.0} | {save} | {open} | {few} | {percent} |\n",
        paths.len(),
        opened.num_nodes(),
        opened.num_bytes() as f64 / opened.num_nodes() as f64,
        first.peak_bytes / 1e6,
    )
}
