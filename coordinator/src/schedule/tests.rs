use super::*;
use proptest::prelude::*;
use riser_core::{
    bounded::Bounded, catalog::plan::CatalogPlan, digest::Digest, group_set::GroupSet, ids::GroupId, lockstep::Lockstep,
};

const TIMEOUT: Duration = Duration::from_secs(10);
const LIFETIME: Duration = Duration::from_secs(35);

pub(super) fn config(groups_per_batch: u32, groups_per_lease: u32, lag: u32, total_batches: u64) -> ScheduleConfig {
    ScheduleConfig {
        pacing: Pacing::Lockstep(Lockstep { groups_per_batch: groups_per_batch.try_into().unwrap(), lag }),
        groups_per_lease: groups_per_lease.try_into().unwrap(),
        total_batches,
        incarnation: Incarnation(1),
        lease_timeout: TIMEOUT,
        lease_lifetime: LIFETIME,
        max_waiting: 3,
    }
}

fn bounded(groups_per_batch: u32, groups_per_lease: u32, max_staleness: u32, total_batches: u64) -> ScheduleConfig {
    let pacing = Bounded { groups_per_batch: groups_per_batch.try_into().unwrap(), max_staleness };
    ScheduleConfig {
        pacing: Pacing::Bounded(pacing),
        ..config(groups_per_batch, groups_per_lease, max_staleness, total_batches)
    }
}

pub(super) fn catalog(number: u8) -> Digest {
    Digest::of(&[number])
}

/// A learner in lockstep that has trained `version` batches and waits for the next.
pub(super) fn report(config: &ScheduleConfig, version: u64) -> LearnerReport {
    let received = GroupSet::below(version * config.pacing.groups_per_batch());
    LearnerReport {
        learner: Incarnation(1),
        start: 1,
        version: PolicyVersion(version),
        taken: version,
        received,
        catalogs: CatalogPlan::new(catalog(0)),
    }
}

/// A schedule whose learner has reported that it is at the beginning.
fn ready(config: ScheduleConfig) -> Schedule {
    let mut schedule = Schedule::new(config);
    apply(&mut schedule, Event::Report(report(&config, 0)), 0).unwrap();
    schedule
}

/// The `grant`-th epoch of the first coordinator.
fn epoch(grant: u64) -> LeaseEpoch {
    LeaseEpoch::new(Incarnation(1), grant)
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn apply(schedule: &mut Schedule, event: Event, now: u64) -> Result<Vec<Effect>, ScheduleError> {
    let mut effects = vec![];
    schedule.apply(event, seconds(now), &mut effects).map(|()| effects)
}

/// Asks at `now`, willing to wait a second.
fn ask(schedule: &mut Schedule, ask: u64, now: u64) -> Vec<Effect> {
    let until = seconds(now + 1);
    apply(schedule, Event::Ask { ask: AskId(ask), worker: WorkerId(7), until }, now).unwrap()
}

fn granted(effects: &[Effect]) -> &Grant {
    match effects {
        [Effect::Grant { grant, .. }] => grant,
        other => panic!("expected one grant, got {other:?}"),
    }
}

#[test]
fn a_batch_is_cut_into_leases_that_never_span_two_batches() {
    let config = config(10, 4, 1, 5);
    let mut schedule = ready(config);
    let cuts: Vec<_> = (0..6).map(|number| granted(&ask(&mut schedule, number, 0)).clone()).collect();
    let groups: Vec<_> = cuts.iter().map(|grant| grant.groups.clone()).collect();
    assert_eq!(groups, [0..4, 4..8, 8..10, 10..14, 14..18, 18..20]);
    assert!(cuts.iter().all(|grant| grant.version == PolicyVersion(0)));
    let epochs: Vec<_> = cuts.iter().map(|grant| grant.epoch).collect();
    assert_eq!(epochs, (1..=6).map(epoch).collect::<Vec<_>>());
    assert_eq!(ask(&mut schedule, 6, 0), [], "with lag 1 two batches are open, and both are out");
}

#[test]
fn who_waits_is_answered_by_work_by_the_end_of_patience_or_by_the_end_of_the_run() {
    let config = config(4, 4, 0, 2);
    let mut schedule = ready(config);
    let first = granted(&ask(&mut schedule, 0, 0)).clone();
    assert_eq!(ask(&mut schedule, 1, 0), []);
    assert_eq!(schedule.next_deadline(), Some(seconds(1)));
    assert_eq!(apply(&mut schedule, Event::Tick, 1), Ok(vec![Effect::Wait { ask: AskId(1) }]));

    assert_eq!(ask(&mut schedule, 2, 2), []);
    apply(&mut schedule, Event::Complete(first.claim()), 2).unwrap();
    let effects = apply(&mut schedule, Event::Report(report(&config, 1)), 2).unwrap();
    let second = granted(&effects).clone();
    assert_eq!((second.groups.clone(), second.version), (4..8, PolicyVersion(1)));

    assert_eq!(ask(&mut schedule, 3, 3), []);
    let effects = apply(&mut schedule, Event::Report(report(&config, 2)), 3).unwrap();
    assert_eq!(effects, [Effect::Done { ask: AskId(3) }]);
    assert_eq!(ask(&mut schedule, 4, 9), [Effect::Done { ask: AskId(4) }]);
    assert_eq!(schedule.counts(), Counts { granted: 2, completed: 1, overtaken: 1, ..Counts::default() });
}

#[test]
fn an_expired_lease_goes_to_the_next_worker_with_a_higher_epoch_and_its_old_holder_is_refused() {
    let config = config(4, 4, 0, 2);
    let mut schedule = ready(config);
    let old = granted(&ask(&mut schedule, 0, 0)).clone();
    assert_eq!(ask(&mut schedule, 1, 9), []);
    let effects = apply(&mut schedule, Event::Tick, 10).unwrap();
    // The question of second 9 is still open in second 10: its patience ends then, but work comes first.
    let new = granted(&effects).clone();
    assert_eq!((new.lease, new.groups.clone()), (old.lease, old.groups.clone()));
    assert!(new.epoch > old.epoch);

    let late = [Event::Complete(old.claim()), Event::Release(old.claim()), Event::Renew(old.claim())];
    for event in late {
        let refused = ScheduleError::NotHeld { lease: old.lease, epoch: old.epoch };
        assert_eq!(apply(&mut schedule, event, 11), Err(refused));
    }
    assert_eq!(schedule.num_in_flight(), 1);
    assert_eq!(apply(&mut schedule, Event::Complete(new.claim()), 11), Ok(vec![]));
    assert_eq!(schedule.counts(), Counts { granted: 2, completed: 1, expired: 1, refused: 3, ..Counts::default() });
}

#[test]
fn renewals_keep_a_lease_until_its_lifetime_ends() {
    let config = config(4, 4, 0, 2);
    let mut schedule = ready(config);
    let grant = granted(&ask(&mut schedule, 0, 0)).clone();
    let renew = Event::Renew(grant.claim());
    for now in [9, 18, 27] {
        assert_eq!(apply(&mut schedule, renew.clone(), now), Ok(vec![]));
    }
    assert_eq!(schedule.next_deadline(), Some(LIFETIME));
    let stuck = ScheduleError::NotHeld { lease: grant.lease, epoch: grant.epoch };
    assert_eq!(apply(&mut schedule, renew, 36), Err(stuck));
}

#[test]
fn a_lease_that_is_given_back_is_out_again_at_once() {
    let config = config(4, 4, 0, 2);
    let mut schedule = ready(config);
    let first = granted(&ask(&mut schedule, 0, 0)).clone();
    assert_eq!(ask(&mut schedule, 1, 0), []);
    let effects = apply(&mut schedule, Event::Release(first.claim()), 0).unwrap();
    let again = granted(&effects);
    assert_eq!((again.lease, again.epoch), (first.lease, epoch(2)));
}

#[test]
fn versions_that_run_backwards_or_past_the_end_and_too_many_questions_are_refused() {
    let config = config(4, 4, 0, 2);
    let mut schedule = ready(config);
    apply(&mut schedule, Event::Report(report(&config, 1)), 0).unwrap();
    assert_eq!(apply(&mut schedule, Event::Report(report(&config, 1)), 0), Ok(vec![]));
    assert_eq!(
        apply(&mut schedule, Event::Report(report(&config, 0)), 0),
        Err(ScheduleError::Backwards { got: PolicyVersion(0), current: PolicyVersion(1) })
    );
    assert_eq!(
        apply(&mut schedule, Event::Report(report(&config, 3)), 0),
        Err(ScheduleError::BeyondEnd { got: PolicyVersion(3), last: 2 })
    );
    for number in 0..4 {
        ask(&mut schedule, number, 0);
    }
    let until = seconds(1);
    assert_eq!(
        apply(&mut schedule, Event::Ask { ask: AskId(4), worker: WorkerId(7), until }, 0),
        Err(ScheduleError::Crowded { limit: 3 })
    );
}

#[test]
fn nothing_is_granted_before_the_learner_has_reported_and_what_it_has_is_not_granted_again() {
    let config = config(4, 2, 1, 3);
    let mut schedule = Schedule::new(config);
    assert_eq!(ask(&mut schedule, 0, 0), []);
    let claim = Claim { lease: LeaseId(1), epoch: epoch(1), worker: WorkerId(7), version: PolicyVersion(0) };
    assert_eq!(apply(&mut schedule, Event::Renew(claim), 0), Err(ScheduleError::Unready));
    let received = GroupSet::new(6, [8, 9]);
    let report = LearnerReport { learner: Incarnation(3), start: 3, received, ..report(&config, 1) };
    let effects = apply(&mut schedule, Event::Report(report), 0).unwrap();
    let first = granted(&effects).clone();
    let second = granted(&ask(&mut schedule, 1, 0)).clone();
    assert_eq!((first.groups, first.version), (6..8, PolicyVersion(0)));
    assert_eq!((second.groups, second.version), (10..12, PolicyVersion(1)));
    assert_eq!(ask(&mut schedule, 2, 0), []);
}

#[test]
fn a_restarted_coordinator_knows_old_holders_again_and_never_repeats_an_epoch() {
    let config = config(4, 2, 0, 3);
    let mut before = ready(config);
    let old: Vec<_> = (0..2).map(|number| granted(&ask(&mut before, number, 0)).clone()).collect();

    let mut after = ready(ScheduleConfig { incarnation: Incarnation(2), ..config });
    // The first holder is heard before anyone else gets its lease, the second too late.
    assert_eq!(apply(&mut after, Event::Renew(old[0].claim()), 1), Ok(vec![]));
    let new = granted(&ask(&mut after, 0, 1)).clone();
    assert_eq!(new.lease, old[1].lease);
    assert!(new.epoch > old[1].epoch && new.epoch > old[0].epoch);
    let refused = ScheduleError::NotHeld { lease: new.lease, epoch: old[1].epoch };
    assert_eq!(apply(&mut after, Event::Complete(old[1].claim()), 1), Err(refused));
    apply(&mut after, Event::Complete(old[0].claim()), 2).unwrap();
    apply(&mut after, Event::Complete(new.claim()), 2).unwrap();
    assert_eq!(after.counts(), Counts { granted: 1, adopted: 1, completed: 2, refused: 1, ..Counts::default() });
    assert_eq!(ask(&mut after, 1, 3), [], "everything is delivered");
}

#[test]
fn a_lease_of_a_version_that_the_learner_has_yet_to_reach_again_is_not_taken_from_its_old_holder() {
    let config = config(2, 2, 0, 3);
    let mut before = ready(config);
    let first = granted(&ask(&mut before, 0, 0)).clone();
    apply(&mut before, Event::Complete(first.claim()), 0).unwrap();
    apply(&mut before, Event::Report(report(&config, 1)), 0).unwrap();
    let old = granted(&ask(&mut before, 1, 0)).clone();
    assert_eq!(old.version, PolicyVersion(1));

    // Both were started again, the learner from before version 1.
    let mut after = Schedule::new(ScheduleConfig { incarnation: Incarnation(2), ..config });
    let restarted = LearnerReport { learner: Incarnation(2), ..report(&config, 0) };
    apply(&mut after, Event::Report(restarted), 1).unwrap();
    let refused = ScheduleError::NotHeld { lease: old.lease, epoch: old.epoch };
    assert_eq!(apply(&mut after, Event::Renew(old.claim()), 1), Err(refused));
}

#[test]
fn a_learner_that_went_back_gets_again_what_it_lost_and_its_former_self_is_not_heard() {
    let config = bounded(2, 2, 1, 5);
    let mut schedule = ready(config);
    for version in 0..3 {
        let grant = granted(&ask(&mut schedule, version, 0)).clone();
        assert_eq!((grant.groups.start, grant.version.0), (2 * version, version));
        apply(&mut schedule, Event::Complete(grant.claim()), 0).unwrap();
        apply(&mut schedule, Event::Report(report(&config, version + 1)), 0).unwrap();
    }
    let out = granted(&ask(&mut schedule, 3, 0)).clone();
    let restarted = LearnerReport { learner: Incarnation(2), ..report(&config, 1) };
    apply(&mut schedule, Event::Report(restarted), 1).unwrap();
    assert_eq!(schedule.num_in_flight(), 0, "a lease of version 3 means nothing at version 1");
    let again: Vec<_> = (4..6).map(|number| granted(&ask(&mut schedule, number, 1)).groups.clone()).collect();
    assert_eq!(again, [2..4, 4..6]);
    let refused = ScheduleError::NotHeld { lease: out.lease, epoch: out.epoch };
    assert_eq!(apply(&mut schedule, Event::Complete(out.claim()), 2), Err(refused));
    let superseded = ScheduleError::Superseded { got: Incarnation(1), current: Incarnation(2) };
    assert_eq!(apply(&mut schedule, Event::Report(report(&config, 4)), 2), Err(superseded));
    assert_eq!(schedule.counts().rewound, 1);
}

#[test]
fn of_two_learners_with_the_same_number_the_one_that_was_there_first_is_heard() {
    let config = config(2, 2, 0, 2);
    let mut schedule = ready(config);
    let twin = LearnerReport { start: 2, ..report(&config, 1) };
    let refused = Err(ScheduleError::Twin { number: Incarnation(1) });
    assert_eq!(apply(&mut schedule, Event::Report(twin.clone()), 1), refused);
    assert_eq!(schedule.version(), Some(PolicyVersion(0)));
    let again = LearnerReport { learner: Incarnation(2), ..twin };
    apply(&mut schedule, Event::Report(again), 2).unwrap();
    assert_eq!(schedule.version(), Some(PolicyVersion(1)));
}

#[test]
fn a_completed_lease_that_two_reports_do_not_show_is_granted_again() {
    let config = config(2, 2, 0, 2);
    let mut schedule = ready(config);
    let lost = granted(&ask(&mut schedule, 0, 0)).clone();
    apply(&mut schedule, Event::Complete(lost.claim()), 1).unwrap();
    apply(&mut schedule, Event::Report(report(&config, 0)), 1).unwrap();
    assert_eq!(ask(&mut schedule, 1, 2), [], "the report may be older than the completion");
    let effects = apply(&mut schedule, Event::Report(report(&config, 0)), 2).unwrap();
    assert_eq!(granted(&effects).lease, lost.lease);
    assert_eq!(schedule.counts().missing, 1);
}

#[test]
fn a_lease_that_is_out_for_long_is_given_to_a_second_worker_and_the_first_to_complete_wins() {
    let config = config(4, 1, 0, 2);
    let mut schedule = ready(config);
    let slow = granted(&ask(&mut schedule, 0, 0)).clone();
    let fast: Vec<_> = (1..4).map(|number| granted(&ask(&mut schedule, number, 0)).clone()).collect();
    for grant in fast {
        apply(&mut schedule, Event::Complete(grant.claim()), 2).unwrap();
    }
    // The usual time is 2 s, so from second 4 on the first lease is late.
    let other = |until: u64| Event::Ask { ask: AskId(9), worker: WorkerId(8), until: seconds(until) };
    assert_eq!(apply(&mut schedule, other(8), 3), Ok(vec![]));
    assert_eq!(schedule.next_deadline(), Some(seconds(4)));
    let second = granted(&apply(&mut schedule, Event::Tick, 4).unwrap()).clone();
    assert_eq!((second.lease, second.version), (slow.lease, slow.version));
    assert!(second.epoch > slow.epoch);
    assert_eq!(apply(&mut schedule, other(6), 5), Ok(vec![]), "two holders are enough");
    assert_eq!(schedule.next_deadline(), Some(seconds(6)), "nothing to wake up for but the end of patience");
    apply(&mut schedule, Event::Renew(slow.claim()), 5).unwrap();
    apply(&mut schedule, Event::Complete(second.claim()), 5).unwrap();
    let refused = ScheduleError::NotHeld { lease: slow.lease, epoch: slow.epoch };
    assert_eq!(apply(&mut schedule, Event::Complete(slow.claim()), 5), Err(refused));
    let counts = Counts { granted: 5, doubled: 1, completed: 4, outrun: 1, refused: 1, ..Counts::default() };
    assert_eq!(schedule.counts(), counts);
}

mod histories;

/// A learner that goes on with another catalog from batch `first` on.
fn changing(config: &ScheduleConfig, version: u64, first: u64) -> LearnerReport {
    let report = report(config, version);
    let catalogs = report.catalogs.with_change(catalog(1), "/data/next".into(), Some(first), 0, 100).unwrap();
    LearnerReport { catalogs, ..report }
}

#[test]
fn batches_of_a_catalog_that_is_not_here_stay_closed_until_it_is_and_leases_name_the_one_of_their_batch() {
    let config = config(1, 1, 2, 9);
    let mut schedule = ready(config);
    apply(&mut schedule, Event::Report(changing(&config, 1, 3)), 0).unwrap();
    let mut catalogs = vec![];
    for number in 0..2 {
        catalogs.push(granted(&ask(&mut schedule, number, 0)).catalog);
    }
    assert_eq!(catalogs, [catalog(0), catalog(0)], "batches 1 and 2");
    assert_eq!(ask(&mut schedule, 2, 0), [], "batch 3 waits");
    let answer = apply(&mut schedule, Event::Catalogs([catalog(1)].into()), 0).unwrap();
    let grant = granted(&answer);
    assert_eq!((grant.groups.clone(), grant.catalog), (3..4, catalog(1)));
}

#[test]
fn a_learner_that_changes_what_is_leased_already_or_takes_a_change_back_is_refused_unless_it_was_started_again() {
    let config = config(1, 1, 2, 9);
    let mut schedule = ready(config);
    let refused = ScheduleError::Catalogs { learner: Incarnation(1), opened: 3 };
    assert_eq!(apply(&mut schedule, Event::Report(changing(&config, 0, 2)), 0), Err(refused));
    apply(&mut schedule, Event::Report(changing(&config, 0, 3)), 0).unwrap();
    assert_eq!(apply(&mut schedule, Event::Report(report(&config, 0)), 0), Err(refused));
    let restarted = LearnerReport { learner: Incarnation(2), ..report(&config, 0) };
    apply(&mut schedule, Event::Report(restarted), 0).unwrap();
    assert_eq!(schedule.catalogs(), Some(&CatalogPlan::new(catalog(0))));
}
