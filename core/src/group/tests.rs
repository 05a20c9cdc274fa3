use super::*;
use proptest::prelude::*;

/// Items `[1 2 0]`, `[1 3 0]`, `[4 0]` and a twin of the first.
fn tree() -> PrefixTree {
    PrefixTree::build(&[&[1, 2, 0][..], &[1, 3, 0], &[4, 0], &[1, 2, 0]]).unwrap()
}

fn group(tree: &PrefixTree, items: &[u32]) -> RolloutGroup {
    let leaves: Vec<NodeId> = items.iter().map(|&item| tree.leaf_of(ItemIndex(item))).collect();
    let (subtree, ends) = SubTree::spanning(tree, &leaves, |_, _| -0.5);
    let completions = ends
        .iter()
        .zip(items)
        .map(|(&leaf, &item)| Completion { leaf, item: ItemIndex(item), reward: if item == 2 { 1.0 } else { 0.0 } })
        .collect();
    let mut unique = ends;
    unique.sort_unstable();
    unique.dedup();
    RolloutGroup {
        id: GroupId(5),
        row: RowId(9),
        version: PolicyVersion(3),
        policy: Digest::of(b"policy"),
        catalog: tree.digest(),
        space: LogprobSpace::Catalog,
        prompt: vec![7, 8],
        target: ItemIndex(2),
        subtree,
        completions,
        sampled: items.len() as u32,
        unique: unique.len() as u32,
        stats: GroupStats::default(),
    }
}

#[test]
fn a_group_of_real_walks_is_accepted_and_shares_its_beginnings() {
    let tree = tree();
    let group = group(&tree, &[0, 1, 2, 3, 0]);
    assert_eq!(group.validate(&tree, &GroupLimits::default()), Ok(()));
    assert_eq!(group.subtree.token, [1, 2, 0, 3, 0, 4, 0]);
    assert_eq!(group.subtree.children, [2, 2, 1, 2, 1, 2, 1]);
    assert_eq!(group.subtree.path(4), [0, 3, 4]);
    assert!(group.has_hit());
}

#[test]
fn every_lie_is_named() {
    let tree = tree();
    type Lie = fn(&mut RolloutGroup);
    let other = Digest::of(b"another catalog");
    let lies: [(Lie, GroupError); 17] = [
        (|g| g.catalog = Digest::of(b"another catalog"), GroupError::Catalog { got: other, expected: tree.digest() }),
        (|g| g.prompt.clear(), GroupError::Size { what: "prompt tokens", got: 0, min: 1, max: 32_768 }),
        (|g| g.completions.truncate(1), GroupError::Size { what: "completions", got: 1, min: 2, max: 4096 }),
        (|g| g.target = ItemIndex(4), GroupError::Target { target: ItemIndex(4), num_items: 4 }),
        (|g| g.subtree.token.truncate(2), GroupError::Length { array: "token", got: 2, expected: 7 }),
        (|g| g.subtree.parent[1] = 1, GroupError::Parent { entry: 1, parent: 1 }),
        (
            |g| g.subtree.token[1] = 9,
            GroupError::Illegal { entry: 1, token: 9, before: tree.step(NodeId(0), 1).unwrap() },
        ),
        (
            |g| g.subtree.node[0] = NodeId(u32::MAX),
            GroupError::Node { entry: 0, got: NodeId(u32::MAX), expected: tree.step(NodeId(0), 1).unwrap() },
        ),
        (|g| g.subtree.children[2] = 2, GroupError::Children { entry: 2, got: 2, expected: 1 }),
        (|g| g.subtree.logprob[3] = 0.1, GroupError::Logprob { entry: 3, logprob: 0.1 }),
        (|g| g.subtree.logprob[3] = f32::NEG_INFINITY, GroupError::Logprob { entry: 3, logprob: f32::NEG_INFINITY }),
        (
            |g| {
                for array in [&mut g.subtree.parent, &mut g.subtree.token, &mut g.subtree.children] {
                    array.push(array[0]);
                }
                g.subtree.node.push(g.subtree.node[0]);
                g.subtree.logprob.push(-0.5);
            },
            GroupError::Repeated { node: tree.step(NodeId(0), 1).unwrap() },
        ),
        (|g| g.completions[1].leaf = 7, GroupError::NoSuchLeaf { index: 1, leaf: 7 }),
        (|g| g.completions[1].leaf = 0, GroupError::Unfinished { index: 1, node: tree.step(NodeId(0), 1).unwrap() }),
        (
            |g| g.completions[0].item = ItemIndex(1),
            GroupError::WrongItem { index: 0, item: ItemIndex(1), node: tree.leaf_of(ItemIndex(0)) },
        ),
        (|g| g.completions[2].reward = f32::INFINITY, GroupError::Reward { index: 2, reward: f32::INFINITY }),
        (|g| g.unique = 2, GroupError::Counts { kept: 5, distinct: 3, unique: 2, sampled: 5 }),
    ];
    for (lie, expected) in lies {
        let mut group = group(&tree, &[0, 1, 2, 3, 0]);
        lie(&mut group);
        assert_eq!(group.validate(&tree, &GroupLimits::default()), Err(expected));
    }
}

prop_compose! {
    fn nonsense()(
        parent in prop::collection::vec(prop_oneof![Just(u32::MAX), 0u32..6], 0..6),
        token in prop::collection::vec(0u32..5, 0..6),
        node in prop::collection::vec(0u32..12, 0..6),
        children in prop::collection::vec(0u32..3, 0..6),
        completions in prop::collection::vec((0u32..7, 0u32..6), 0..4),
        counts in (0u32..5, 0u32..5),
    ) -> RolloutGroup {
        let mut group = group(&tree(), &[0, 1]);
        group.subtree = SubTree {
            logprob: vec![-1.0; parent.len()],
            parent,
            token,
            node: node.into_iter().map(NodeId).collect(),
            children,
        };
        let completion = |(leaf, item)| Completion { leaf, item: ItemIndex(item), reward: 0.0 };
        group.completions = completions.into_iter().map(completion).collect();
        (group.sampled, group.unique) = counts;
        group
    }
}

proptest! {
    #[test]
    fn nonsense_is_refused_without_a_panic_or_really_is_a_set_of_walks(group in nonsense()) {
        let tree = tree();
        if group.validate(&tree, &GroupLimits::default()).is_ok() {
            for completion in &group.completions {
                let walk: Vec<u32> =
                    group.subtree.path(completion.leaf).iter().map(|&entry| group.subtree.token[entry as usize]).collect();
                prop_assert_eq!(tree.walk(&walk), Ok(tree.leaf_of(completion.item)));
            }
        }
    }

    #[test]
    fn any_selection_of_items_spans_a_valid_group(items in prop::collection::vec(0u32..4, 2..20)) {
        let tree = tree();
        prop_assert_eq!(group(&tree, &items).validate(&tree, &GroupLimits::default()), Ok(()));
    }
}
