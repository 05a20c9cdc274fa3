use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const END: u32 = 0;

/// Small random catalogs over few tokens: many shared prefixes, duplicates, prefixes of one another.
fn catalogs() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(1_u32..5, 1..6), 1..40).prop_map(|mut items| {
        items.iter_mut().for_each(|item| item.push(END));
        items
    })
}

/// The slow oracle: a hash-map trie keyed by prefix.
fn oracle(paths: &[Vec<u32>]) -> BTreeMap<Vec<u32>, BTreeSet<u32>> {
    let mut children = BTreeMap::<Vec<u32>, BTreeSet<u32>>::new();
    for path in paths {
        for t in 0..path.len() {
            children.entry(path[..t].to_vec()).or_default().insert(path[t]);
        }
        children.entry(path.clone()).or_default();
    }
    children
}

proptest! {
    #[test]
    fn every_prefix_has_exactly_the_continuations_of_the_catalog(paths in catalogs()) {
        let tree = PrefixTree::build(&paths).unwrap();
        let oracle = oracle(&paths);
        prop_assert_eq!(tree.num_nodes(), oracle.len());
        for (prefix, children) in &oracle {
            let node = tree.walk(prefix).unwrap();
            prop_assert_eq!(tree.children(node).tokens.to_vec(), children.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(&tree.path(node), prefix);
            for token in 0..6 {
                prop_assert_eq!(tree.step(node, token).is_some(), children.contains(&token));
            }
        }
    }

    #[test]
    fn a_leaf_lists_all_items_spelled_that_way(paths in catalogs()) {
        let tree = PrefixTree::build(&paths).unwrap();
        for (i, path) in paths.iter().enumerate() {
            let leaf = tree.leaf_of(ItemIndex(i as u32));
            prop_assert_eq!(&tree.path(leaf), path);
            prop_assert!(tree.is_leaf(leaf));
            let same: Vec<_> = (0..paths.len()).filter(|&j| paths[j] == *path).map(|j| ItemIndex(j as u32)).collect();
            prop_assert_eq!(tree.items_at(leaf), &same[..]);
        }
        let listed: usize = (0..tree.num_nodes()).map(|n| tree.items_at(NodeId(n as u32)).len()).sum();
        prop_assert_eq!(listed, paths.len());
    }

    #[test]
    fn the_tree_survives_bytes_and_file(paths in catalogs()) {
        let tree = PrefixTree::build(&paths).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tree.bin");
        tree.save(&file).unwrap();
        let opened = PrefixTree::open(&file).unwrap();
        prop_assert_eq!(opened.digest(), tree.digest());
        prop_assert_eq!(opened.to_bytes(), tree.to_bytes());
        prop_assert_eq!(PrefixTree::from_bytes(&tree.to_bytes(), "memory").unwrap().to_bytes(), tree.to_bytes());
    }

    #[test]
    fn any_flipped_or_missing_byte_is_noticed(paths in catalogs(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let bytes = PrefixTree::build(&paths).unwrap().to_bytes();
        let at = at.index(bytes.len());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1_u8 << bit;
        prop_assert!(PrefixTree::from_bytes(&flipped, "memory").is_err());
        prop_assert!(PrefixTree::from_bytes(&bytes[..at], "memory").is_err());
    }
}

#[test]
fn an_item_that_ends_inside_another_is_refused() {
    let error = PrefixTree::build(&[vec![1, 2], vec![1]]).unwrap_err();
    assert_eq!(error, BuildError::EndsInside { item: 1, other: 0 });
    assert_eq!(PrefixTree::build::<Vec<u32>>(&[]).unwrap_err(), BuildError::Empty);
    assert_eq!(PrefixTree::build(&[vec![]]).unwrap_err(), BuildError::EmptyItem { item: 0 });
}

#[test]
fn an_illegal_token_is_an_error_with_its_place() {
    let tree = PrefixTree::build(&[vec![1, 2, END], vec![1, 3, END]]).unwrap();
    assert_eq!(tree.walk(&[1, 4]), Err(WalkError { token: 4, position: 1 }));
    assert_eq!(tree.walk(&[1, 2, END, 1]), Err(WalkError { token: 1, position: 3 }));
}
