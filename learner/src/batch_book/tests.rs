use super::*;
use proptest::prelude::*;
use riser_core::{
    digest::Digest,
    group::{GroupStats, SubTree},
    ids::{ItemIndex, RowId},
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

fn book(lag: u32) -> BatchBook {
    BatchBook::new(Lockstep { groups_per_batch: 3.try_into().unwrap(), lag }, 4, PolicyVersion(0))
}

#[test]
fn a_batch_is_whole_ordered_and_taken_once() {
    let mut book = book(1);
    for id in [2, 4, 0] {
        assert_eq!(book.admit(group(id, 0)), Ok(Admission::Accepted));
        assert_eq!(book.take_batch(), None);
    }
    assert_eq!(book.admit(group(1, 0)), Ok(Admission::Accepted));
    let ids: Vec<u64> = book.take_batch().unwrap().iter().map(|group| group.id.0).collect();
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(book.admit(group(1, 0)), Ok(Admission::Duplicate), "it has been trained on");
    assert_eq!(book.admit(group(4, 0)), Ok(Admission::Duplicate), "it is waiting");
    assert_eq!(book.num_groups(), 1);
}

#[test]
fn a_group_of_another_version_or_of_a_closed_batch_is_refused() {
    let mut book = book(1);
    let wrong =
        AdmissionError::Version { group: GroupId(7), batch: 2, got: PolicyVersion(0), expected: PolicyVersion(1) };
    assert_eq!(book.admit(group(7, 0)), Err(wrong));
    let early = AdmissionError::NotOpen { group: GroupId(7), batch: 2, first: 0, last: 1 };
    assert_eq!(book.admit(group(7, 1)), Err(early));
    let beyond = AdmissionError::NotOpen { group: GroupId(12), batch: 4, first: 0, last: 1 };
    assert_eq!(book.admit(group(12, 3)), Err(beyond));
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
            let _ = book.admit(group(id, batch.saturating_sub(lag.into())));
            prop_assert!(book.num_groups() as u64 <= 3 * (u64::from(lag) + 1));
            while let Some(batch) = book.take_batch() {
                trained.extend(batch.iter().map(|group| group.id.0));
            }
        }
        prop_assert_eq!(trained, (0..12).collect::<Vec<_>>());
    }
}
