use super::*;
use crate::prefix_tree::PrefixTree;
use proptest::prelude::*;

const END: u32 = 0;

/// Spellings over few tokens, so that old and new items share beginnings, part in the middle of chains and coincide.
fn spelling() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1_u32..4, 0..7).prop_map(|mut tokens| {
        tokens.push(END);
        tokens
    })
}

/// The old list, which of it stay, what comes, and an order of the new list.
type Changes = (Vec<Vec<u32>>, Vec<bool>, Vec<Vec<u32>>, Vec<usize>);

fn changes() -> impl Strategy<Value = Changes> {
    let old = prop::collection::vec((spelling(), any::<bool>()), 1..80);
    // Often nothing comes or little goes, so that whole levels stay.
    let removals = prop_oneof![Just(0), Just(1), Just(2)];
    let added =
        prop_oneof![Just(0..1), Just(0..4), Just(0..60)].prop_flat_map(|size| prop::collection::vec(spelling(), size));
    (old, removals, added)
        .prop_map(|(old, removals, added)| {
            let (paths, flags): (Vec<_>, Vec<_>) = old.into_iter().unzip();
            let mut gone = 0;
            let stays = flags.iter().map(|&stays| {
                gone += usize::from(!stays);
                stays || removals == 0 || (removals == 1 && gone > 2)
            });
            let stays: Vec<bool> = stays.collect();
            (paths, stays, added)
        })
        .prop_filter("a catalog has items", |(_, stays, added)| stays.iter().any(|stays| *stays) || !added.is_empty())
        .prop_flat_map(|(paths, stays, added)| {
            let items = stays.iter().filter(|stays| **stays).count() + added.len();
            let order =
                prop_oneof![Just((0..items).collect::<Vec<_>>()), Just((0..items).collect::<Vec<_>>()).prop_shuffle()];
            (Just(paths), Just(stays), Just(added), order)
        })
}

/// The new list, and the update that leads to it.
type Update = (Vec<Vec<u32>>, Vec<Option<ItemIndex>>, Vec<(ItemIndex, Vec<u32>)>);

fn update(paths: &[Vec<u32>], stays: &[bool], added: &[Vec<u32>], order: &[usize]) -> Update {
    let mut order = order.iter().map(|&place| ItemIndex(place as u32));
    let places: Vec<_> = stays.iter().map(|&stays| if stays { order.next() } else { None }).collect();
    let added: Vec<_> = added.iter().map(|path| (order.next().unwrap(), path.clone())).collect();
    let mut list = vec![vec![]; places.iter().flatten().count() + added.len()];
    for (path, place) in paths.iter().zip(&places) {
        if let Some(place) = place {
            list[place.0 as usize] = path.clone();
        }
    }
    added.iter().for_each(|(place, path)| list[place.0 as usize] = path.clone());
    (list, places, added)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn an_updated_tree_is_the_tree_of_the_new_list_byte_for_byte((paths, stays, added, order) in changes()) {
        let (list, places, added) = update(&paths, &stays, &added, &order);
        let tree = PrefixTree::build(&paths).unwrap().updated(&places, &added).unwrap();
        let built = PrefixTree::build(&list).unwrap();
        prop_assert_eq!(tree.to_bytes(), built.to_bytes());
        prop_assert_eq!(tree.digest(), built.digest());
    }

    #[test]
    fn an_update_is_refused_exactly_if_a_build_of_the_new_list_is(
        old in prop::collection::vec(prop::collection::vec(1u32..3, 1..4), 1..6),
        added in prop::collection::vec(prop::collection::vec(1u32..3, 0..5), 0..4), removed in any::<prop::sample::Index>(),
    ) {
        let Ok(tree) = PrefixTree::build(&old) else { return Ok(()) };
        let stays: Vec<bool> = (0..old.len()).map(|item| item != removed.index(old.len())).collect();
        let order: Vec<usize> = (0..old.len() - 1 + added.len()).collect();
        let (list, places, added) = update(&old, &stays, &added, &order);
        match (tree.updated(&places, &added), PrefixTree::build(&list)) {
            (Ok(updated), Ok(built)) => prop_assert_eq!(updated.to_bytes(), built.to_bytes()),
            (Err(UpdateError::Build(BuildError::EndsInside { item, other })), Err(_)) => {
                let (short, long) = (&list[item as usize], &list[other as usize]);
                prop_assert!(long.len() > short.len() && long.starts_with(short));
            }
            (Err(UpdateError::Build(updated)), Err(built)) => {
                prop_assert_eq!(std::mem::discriminant(&updated), std::mem::discriminant(&built));
            }
            (updated, built) => prop_assert!(false, "{updated:?}, but {built:?}"),
        }
    }
}

#[test]
fn places_that_are_no_list_are_refused_by_name() {
    let tree = PrefixTree::build(&[vec![1, END], vec![2, END]]).unwrap();
    let place = |index| Some(ItemIndex(index));
    let update = |places: &[_], added: &[(ItemIndex, Vec<u32>)]| tree.updated(places, added).map(|_| ());
    assert_eq!(update(&[place(0)], &[]), Err(UpdateError::Places { got: 1, expected: 2 }));
    assert_eq!(update(&[place(0), place(0)], &[]), Err(UpdateError::Index { index: 0, items: 2 }));
    assert_eq!(
        update(&[place(0), None], &[(ItemIndex(0), vec![3, END])]),
        Err(UpdateError::Index { index: 0, items: 2 })
    );
    assert_eq!(update(&[place(2), place(0)], &[]), Err(UpdateError::Index { index: 2, items: 2 }));
    assert_eq!(update(&[None, None], &[]), Err(UpdateError::Build(BuildError::Empty)));
    let empty = [(ItemIndex(2), vec![])];
    assert_eq!(update(&[place(0), place(1)], &empty), Err(UpdateError::Build(BuildError::EmptyItem { item: 2 })));
}

#[test]
fn a_run_that_nothing_changes_is_copied_and_not_walked() {
    let path = |item: u32| vec![1 + item % 7, 1 + item / 7 % 11, 1 + item, 5, END];
    let paths: Vec<_> = (0..2000).map(path).collect();
    let tree = PrefixTree::build(&paths).unwrap();
    let mut places: Vec<_> = (0..2000).map(|item| Some(ItemIndex(item))).collect();
    places[1999] = None;
    let added = [(&[3, 3, 3, 3, END][..], 1999)];
    let merged = Merge::new(&tree, &places, &added).run().unwrap();
    let remade = merged.pieces.iter().filter(|piece| matches!(piece, Piece::New(_))).count();
    // The root, and for each of the two items the chains on its way and the ends of those that lost or gained a branch.
    assert!(remade <= 8, "{remade} chains were made again");
    assert!(merged.pieces.len() <= 40, "{} pieces", merged.pieces.len());
}
