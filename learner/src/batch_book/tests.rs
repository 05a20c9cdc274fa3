use super::*;
use proptest::prelude::*;
use riser_core::{
    bounded::Bounded,
    digest::Digest,
    group::{GroupStats, SubTree},
    ids::{ItemIndex, RowId},
    lockstep::Lockstep,
    logprob_space::LogprobSpace,
};

/// A group of which only the id and the version matter here.
fn group(id: u64, version: u64) -> RolloutGroup {
    RolloutGroup {
        id: GroupId(id),
        row: RowId(0),
        version: PolicyVersion(version),
        policy: Digest::of(b""),
        catalog: Digest::of(b""),
        space: LogprobSpace::Catalog,
        prompt: vec![],
        target: ItemIndex(0),
        subtree: SubTree::default(),
        completions: vec![],
        sampled: 0,
        unique: 0,
        stats: GroupStats::default(),
    }
}

fn plan() -> CatalogPlan {
    CatalogPlan::new(Digest::of(b""))
}

fn book(lag: u32) -> BatchBook {
    let lockstep = Lockstep { groups_per_batch: 3.try_into().unwrap(), lag };
    BatchBook::new(Pacing::Lockstep(lockstep), 4, PolicyVersion(0), GroupSet::default(), plan())
}

fn bounded(max_staleness: u32) -> BatchBook {
    let bounded = Bounded { groups_per_batch: 3.try_into().unwrap(), max_staleness };
    BatchBook::new(Pacing::Bounded(bounded), 4, PolicyVersion(0), GroupSet::default(), plan())
}

/// Bytes that the groups of these tests have.
const BYTES: u64 = 10;

#[test]
fn a_batch_is_whole_ordered_and_taken_once() {
    let mut book = book(1);
    for id in [2, 4, 0] {
        assert_eq!(book.admit(group(id, 0), BYTES), Ok(Admission::Accepted));
        assert_eq!(book.take_batch(), None);
    }
    assert_eq!(book.admit(group(1, 0), BYTES), Ok(Admission::Accepted));
    let ids: Vec<u64> = book.take_batch().unwrap().iter().map(|group| group.id.0).collect();
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(book.admit(group(1, 0), BYTES), Ok(Admission::Duplicate), "it has been trained on");
    assert_eq!(book.admit(group(4, 0), BYTES), Ok(Admission::Duplicate), "it is waiting");
    assert_eq!((book.num_groups(), book.bytes()), (1, BYTES));
    assert_eq!((book.taken(), book.received()), (1, &GroupSet::new(3, [4])));
}

#[test]
fn a_bounded_batch_is_the_first_to_arrive_in_order_of_id_and_its_groups_never_come_back() {
    let mut book = bounded(1);
    for id in [5, 0, 3] {
        assert_eq!(book.take_batch(), None);
        assert_eq!(book.admit(group(id, 0), BYTES), Ok(Admission::Accepted));
    }
    assert_eq!(book.admit(group(1, 0), BYTES), Ok(Admission::Accepted));
    let ids: Vec<u64> = book.take_batch().unwrap().iter().map(|group| group.id.0).collect();
    assert_eq!(ids, [0, 3, 5]);
    assert_eq!((book.num_groups(), book.bytes()), (1, BYTES));
    assert_eq!(book.admit(group(5, 1), BYTES), Ok(Admission::Duplicate));
    assert_eq!(book.admit(group(1, 1), BYTES), Ok(Admission::Duplicate));
}

#[test]
fn a_group_that_would_grow_too_stale_before_its_turn_is_refused_and_may_come_again_with_a_newer_version() {
    let mut book = bounded(0);
    for id in [0, 1, 2] {
        book.admit(group(id, 0), BYTES).unwrap();
    }
    book.take_batch().unwrap();
    let stale = PacingError::Stale { group: GroupId(3), version: PolicyVersion(0), batch: 1, bound: 0 };
    assert_eq!(book.admit(group(3, 0), BYTES), Err(stale));
    let future = PacingError::Future { group: GroupId(3), version: PolicyVersion(2), newest: 1 };
    assert_eq!(book.admit(group(3, 2), BYTES), Err(future));
    assert_eq!(book.admit(group(3, 1), BYTES), Ok(Admission::Accepted));
}

#[test]
fn a_group_of_another_version_or_of_a_closed_batch_is_refused() {
    let mut book = book(1);
    let wrong = PacingError::Version { group: GroupId(7), batch: 2, got: PolicyVersion(0), expected: PolicyVersion(1) };
    assert_eq!(book.admit(group(7, 0), BYTES), Err(wrong));
    let early = PacingError::NotOpen { group: GroupId(7), batch: 2, first: 0, last: 1 };
    assert_eq!(book.admit(group(7, 1), BYTES), Err(early));
    let beyond = PacingError::NotOpen { group: GroupId(12), batch: 4, first: 0, last: 1 };
    assert_eq!(book.admit(group(12, 3), BYTES), Err(beyond));
}

proptest! {
    #[test]
    fn in_any_order_and_with_any_copies_every_group_is_trained_on_once(
        lag in 0u32..3, mut arrivals in prop::collection::vec(0u64..12, 60..200),
    ) {
        let mut book = book(lag);
        arrivals.extend((0..12).cycle().take(12 * 12));
        let mut trained = vec![];
        for id in arrivals {
            let batch = id / 3;
            let _ = book.admit(group(id, batch.saturating_sub(lag.into())), BYTES);
            prop_assert!(book.num_groups() as u64 <= 3 * (u64::from(lag) + 1));
            while let Some(batch) = book.take_batch() {
                trained.extend(batch.iter().map(|group| group.id.0));
            }
        }
        prop_assert_eq!(trained, (0..12).collect::<Vec<_>>());
    }
}

fn next() -> Digest {
    Digest::of(b"next")
}

#[test]
fn a_change_begins_with_the_first_batch_that_nobody_can_have_been_asked_for() {
    for (mut book, taken, expected) in [(book(1), 0, 2), (book(1), 1, 3), (bounded(0), 1, 2), (bounded(2), 0, 3)] {
        book.taken = taken;
        let plan = book.plan_change(next(), "/data/next".into(), None).unwrap();
        assert_eq!(plan.eras()[1].first_batch, expected);
        let early = PlanError::TooEarly { asked: expected - 1, earliest: expected };
        assert_eq!(book.plan_change(next(), "/data/next".into(), Some(expected - 1)), Err(early));
    }
}

#[test]
fn a_group_of_another_catalog_than_its_batch_has_no_place_and_is_nobodys_fault() {
    let mut book = book(1);
    book.go_on_with(book.plan_change(next(), "/data/next".into(), Some(2)).unwrap());
    for id in 0..3 {
        book.admit(group(id, 0), BYTES).unwrap();
    }
    book.take_batch().unwrap();
    let wrong = book.admit(group(6, 1), BYTES).unwrap_err();
    assert!(!wrong.is_wrong());
    let short = |digest: Digest| digest.short();
    let expected =
        format!("group 6: batch 2 is made with catalog {}, got catalog {}", short(next()), short(Digest::of(b"")));
    assert_eq!(wrong.to_string(), expected);
    assert_eq!(book.admit(RolloutGroup { catalog: next(), ..group(6, 1) }, BYTES), Ok(Admission::Accepted));
}

proptest! {
    #[test]
    fn in_bounded_mode_no_batch_mixes_catalogs_in_whatever_order_groups_arrive(
        order in Just((0u64..12).collect::<Vec<_>>()).prop_shuffle(), first in 1u64..4,
    ) {
        // With room for everything, so that only the catalogs decide.
        let mut book = bounded(9);
        book.catalogs = plan().with_change(next(), "/data/next".into(), Some(first), 0, 4).unwrap();
        let mut batches = vec![];
        for id in order {
            let catalog = if id / 3 < first { Digest::of(b"") } else { next() };
            prop_assert_eq!(book.admit(RolloutGroup { catalog, ..group(id, 0) }, BYTES), Ok(Admission::Accepted));
            while let Some(batch) = book.take_batch() {
                batches.push(batch);
            }
        }
        prop_assert_eq!(batches.len(), 4);
        for (number, batch) in (0u64..).zip(&batches) {
            let expected = book.catalogs().era_of(number).catalog;
            prop_assert!(batch.iter().all(|group| group.catalog == expected), "batch {}", number);
        }
    }
}
