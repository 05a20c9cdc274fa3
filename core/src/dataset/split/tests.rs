use super::*;
use crate::dataset::{Dropped, Item, Split};
use proptest::prelude::*;

fn log(events: &[(u32, u32, i64)]) -> Log {
    let items = (0..8).map(|i| Item { id: format!("i{i}"), title: format!("item {i}") }).collect();
    let users = (0..6).map(|u| format!("u{u}")).collect();
    let interactions =
        events.iter().map(|&(user, item, time)| Interaction { user, item: ItemIndex(item), time: Some(time) });
    Log { items, users, interactions: interactions.collect(), dropped: Dropped::default() }
}

/// A row by names: user, history, target, time.
type Named = (String, Vec<String>, String, i64);

fn named(dataset: &Dataset, split: Split) -> Vec<Named> {
    let name = |&item: &ItemIndex| dataset.item(item).id.clone();
    let row = |row: &Row| {
        (row.user.clone().unwrap(), row.history.iter().map(name).collect(), name(&row.target), row.time.unwrap())
    };
    dataset.rows(split).iter().map(row).collect()
}

/// The definition, word by word and slowly: for each interaction look through all others.
fn oracle(events: &[(u32, u32, i64)], options: &SplitOptions, history_length: usize) -> Vec<(usize, usize, Named)> {
    // (time, file order) is a total order, so "before" is unambiguous.
    let before = |a: usize, b: usize| (events[a].2, a) < (events[b].2, b);
    let mut alive: Vec<usize> = (0..events.len()).collect();
    if options.repeats == Repeats::First {
        let all = alive.clone();
        let same = |a: usize, b: usize| (events[a].0, events[a].1) == (events[b].0, events[b].1);
        alive.retain(|&e| !all.iter().any(|&other| before(other, e) && same(other, e)));
    }
    loop {
        let enough = |&e: &usize, alive: &[usize]| {
            let of_user = alive.iter().filter(|&&other| events[other].0 == events[e].0).count();
            let of_item = alive.iter().filter(|&&other| events[other].1 == events[e].1).count();
            of_user >= options.min_interactions && of_item >= options.min_interactions
        };
        let next: Vec<usize> = alive.iter().copied().filter(|e| enough(e, &alive)).collect();
        if next == alive {
            break;
        }
        alive = next;
    }
    let mut rows = Vec::new();
    for &e in &alive {
        let mut earlier: Vec<usize> =
            alive.iter().copied().filter(|&other| events[other].0 == events[e].0 && before(other, e)).collect();
        earlier.sort_by_key(|&other| (events[other].2, other));
        let later = alive.iter().filter(|&&other| events[other].0 == events[e].0 && before(e, other)).count();
        if earlier.is_empty() {
            continue;
        }
        let of = earlier.len() + 1 + later;
        let recent = &earlier[earlier.len().saturating_sub(history_length)..];
        let history = recent.iter().map(|&other| format!("i{}", events[other].1)).collect();
        rows.push((e, (later, of), (format!("u{}", events[e].0), history, format!("i{}", events[e].1), events[e].2)));
    }
    rows.sort_by_key(|&(e, _, _)| (events[e].2, e));
    let count = rows.len();
    let place = |index: usize, (later, of): (usize, usize)| match options.rule {
        SplitRule::Time if 10 * index < count * 8 - count * 8 % 10 => 0,
        SplitRule::Time if 10 * index < count * 9 - count * 9 % 10 => 1,
        SplitRule::Time => 2,
        SplitRule::LeaveOneOut if of < 3 || later > 1 => 0,
        SplitRule::LeaveOneOut => 2 - later,
    };
    rows.into_iter().enumerate().map(|(index, (_, position, row))| (index, place(index, position), row)).collect()
}

proptest! {
    #[test]
    fn splits_are_those_of_the_definition(
        events in prop::collection::vec((0_u32..6, 0_u32..8, 0_i64..12), 0..60),
        min_interactions in 0_usize..4,
        first in any::<bool>(),
        one_out in any::<bool>(),
        history_length in 1_usize..4,
    ) {
        let options = SplitOptions {
            min_interactions,
            repeats: if first { Repeats::First } else { Repeats::Keep },
            rule: if one_out { SplitRule::LeaveOneOut } else { SplitRule::Time },
            ..SplitOptions::default()
        };
        let expected = oracle(&events, &options, history_length);
        match split(log(&events), &options, history_length) {
            Err(error) => {
                let nothing_left = matches!(error, DatasetError::NothingLeft { .. });
                prop_assert!(nothing_left && expected.is_empty(), "{}", error);
            }
            Ok(dataset) => {
                for (number, which) in Split::ALL.into_iter().enumerate() {
                    let expected: Vec<Named> =
                        expected.iter().filter(|(_, place, _)| *place == number).map(|(_, _, row)| row.clone()).collect();
                    prop_assert_eq!(named(&dataset, which), expected);
                }
            }
        }
    }
}

#[test]
fn the_catalog_keeps_the_items_that_are_left_in_list_order() {
    let dataset = split(log(&[(0, 5, 1), (0, 2, 2), (0, 7, 3)]), &SplitOptions::default(), 10).unwrap();
    let ids: Vec<_> = dataset.items().iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["i2", "i5", "i7"]);
}

#[test]
fn a_split_by_time_without_times_is_refused() {
    let mut log = log(&[(0, 0, 0), (0, 1, 1)]);
    log.interactions[1].time = None;
    assert!(matches!(split(log, &SplitOptions::default(), 10), Err(DatasetError::NoTime)));
}

#[test]
fn shares_that_leave_no_test_rows_are_refused() {
    let options = SplitOptions { train_share: 0.9, valid_share: 0.2, ..SplitOptions::default() };
    assert!(matches!(options.check(), Err(DatasetError::Share { .. })));
}

#[test]
fn items_that_nobody_has_chosen_are_in_the_catalog_if_they_are_asked_for() {
    let events = [(0, 2, 1), (0, 5, 2), (1, 5, 3), (1, 2, 4)];
    let catalog = |min_interactions| {
        let options = SplitOptions { min_interactions, rule: SplitRule::LeaveOneOut, ..SplitOptions::default() };
        let dataset = split(log(&events), &options, 5).unwrap();
        let rows = named(&dataset, Split::Train);
        (dataset.items().iter().map(|item| item.id.clone()).collect::<Vec<_>>(), rows)
    };
    let (chosen, rows) = catalog(1);
    assert_eq!(chosen, ["i2", "i5"]);
    let (all, same_rows) = catalog(0);
    assert_eq!(all, ["i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7"]);
    assert_eq!(same_rows, rows);
}
