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
            let before = prefix.split_last().map(|(_, before)| tree.walk(before).unwrap());
            prop_assert_eq!((tree.parent(node), tree.token_into(node)), (before, prefix.last().copied()));
            let mut end = node;
            while tree.num_children(end) == 1 {
                end = tree.children(end).node(0);
            }
            prop_assert_eq!(tree.end_of_run(node), end);
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
    fn below_a_node_lie_the_leaves_of_all_spellings_that_begin_like_it(paths in catalogs()) {
        let tree = PrefixTree::build(&paths).unwrap();
        let places: Vec<usize> = (0..paths.len()).map(|i| tree.leaf_place(ItemIndex(i as u32))).collect();
        for prefix in oracle(&paths).keys() {
            let node = tree.walk(prefix).unwrap();
            let spelled: BTreeSet<usize> =
                paths.iter().zip(&places).filter(|(path, _)| path.starts_with(prefix)).map(|(_, &place)| place).collect();
            let found: Vec<usize> = tree.leaves_below(node).flatten().collect();
            prop_assert_eq!(found.len(), spelled.len());
            prop_assert_eq!(tree.num_leaves_below(node), spelled.len());
            prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), spelled);
        }
        let distinct: BTreeSet<&Vec<u32>> = paths.iter().collect();
        prop_assert_eq!(places.into_iter().collect::<BTreeSet<_>>(), (0..distinct.len()).collect::<BTreeSet<_>>());
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

/// The same digest over changed content, as a writer with an error would make it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(&bytes[44..]);
    bytes[12..44].copy_from_slice(digest.as_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_sealed_change_of_a_word_is_refused_or_makes_another_whole_tree(
        paths in catalogs(), at in any::<prop::sample::Index>(), value in prop_oneof![0..80u32, any::<u32>()],
    ) {
        let tree = PrefixTree::build(&paths).unwrap();
        let mut bytes = tree.to_bytes();
        // Behind the digest, so sizes are among what is changed.
        let at = 44 + 4 * at.index((bytes.len() - 44) / 4);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let bytes = sealed(bytes);
        let Ok(changed) = PrefixTree::from_bytes(&bytes, "memory") else { return Ok(()) };
        // What is believed is a tree: built again from its own spellings it is the same, byte for byte.
        let items = (0..changed.num_items() as u32).map(ItemIndex);
        let paths: Vec<_> = items.map(|item| changed.path(changed.leaf_of(item))).collect();
        prop_assert_eq!(PrefixTree::build(&paths).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn nodes_are_entered_from_the_node_before_and_numbered_without_a_gap(paths in catalogs()) {
        let tree = PrefixTree::build(&paths).unwrap();
        let mut entered = vec![0; tree.num_nodes()];
        for node in (0..tree.num_nodes() as u32).map(NodeId) {
            let children = tree.children(node);
            for k in 0..children.tokens.len() {
                entered[children.node(k).0 as usize] += 1;
                prop_assert_eq!(tree.parent(children.node(k)), Some(node));
            }
        }
        prop_assert_eq!(entered[0], 0);
        prop_assert!(entered[1..].iter().all(|&times| times == 1));
    }
}

#[test]
fn the_documented_example_has_the_documented_numbers() {
    let tree = PrefixTree::build(&[vec![3, 4, 0], vec![5, 1, 0], vec![5, 2, 7, 0]]).unwrap();
    let tokens: Vec<_> = (1..10).map(|node| tree.token_into(NodeId(node)).unwrap()).collect();
    assert_eq!((tree.num_nodes(), tokens), (10, vec![3, 5, 1, 2, 4, 0, 0, 7, 0]));
    let parents: Vec<_> = (1..10).map(|node| tree.parent(NodeId(node)).unwrap().0).collect();
    assert_eq!(parents, [0, 0, 2, 2, 1, 5, 3, 4, 8]);
    assert_eq!((0..3).map(|item| tree.leaf_of(ItemIndex(item)).0).collect::<Vec<_>>(), [6, 7, 9]);
}

#[test]
fn a_file_of_another_version_says_what_to_do() {
    let mut bytes = PrefixTree::build(&[vec![1, END]]).unwrap().to_bytes();
    bytes[8] = 1;
    let error = PrefixTree::from_bytes(&bytes, "old.bin").unwrap_err().to_string();
    assert_eq!(error, "prefix tree old.bin has format version 1, this program reads 2: prepare the data again");
}

#[test]
fn the_tree_does_not_depend_on_the_number_of_threads() {
    let path = |item: u32| vec![item % 97, item.wrapping_mul(0x9e37_79b1) % 1013, item / 3, 9, 9, 7_000_000];
    let paths: Vec<_> = (0..60_000).map(path).collect();
    let build = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| PrefixTree::build(&paths)).unwrap()
    };
    let trees = [1, 2, 5].map(build);
    assert!(trees.iter().all(|tree| tree.to_bytes() == trees[0].to_bytes()));
    for (item, path) in paths.iter().enumerate() {
        assert_eq!(trees[0].walk(path), Ok(trees[0].leaf_of(ItemIndex(item as u32))));
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
