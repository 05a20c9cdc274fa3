use super::*;
use crate::audit::{
    Account,
    tests::{eventful_run, lockstep, started},
};
use riser_core::{
    ids::Incarnation,
    lease::LeaseEpoch,
    run_event::{ArrivalRecord, LeaseChange, LeaseRecord, RunEvent},
};
use rusqlite::Connection;

/// The eventful run of one process as a coordinator and a learner would have written it down.
fn two_logs() -> [Vec<RunEvent>; 2] {
    let of_coordinator = |event: &RunEvent| matches!(event, RunEvent::Lease(_) | RunEvent::CoordinatorStarted { .. });
    let coordinator = Incarnation(1);
    let with_incarnation = |event| match event {
        RunEvent::Lease(record) => {
            RunEvent::Lease(LeaseRecord { epoch: LeaseEpoch::new(coordinator, record.epoch.0), ..record })
        }
        RunEvent::Arrival(mut record) => {
            record.origin.epoch = LeaseEpoch::new(coordinator, record.origin.epoch.0);
            RunEvent::Arrival(record)
        }
        event => event,
    };
    let (mut first, second): (Vec<_>, Vec<_>) =
        eventful_run().into_iter().map(with_incarnation).partition(of_coordinator);
    first.push(RunEvent::RunOver { coordinator });
    [first, second]
}

/// A folder with both logs.
fn logged([coordinator, learner]: [Vec<RunEvent>; 2]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, events) in [("coordinator", coordinator), ("learner", learner)] {
        let mut database = RunDatabase::open(&folder.path().join(name), &lockstep()).unwrap();
        events.chunks(3).for_each(|chunk| database.append(1e9, chunk).unwrap());
    }
    folder
}

fn edit(folder: &tempfile::TempDir, log: &str, sql: &str) {
    let connection = Connection::open(folder.path().join(log)).unwrap();
    assert!(connection.execute(sql, []).unwrap() > 0, "{sql} changes nothing");
}

fn audited(folder: &tempfile::TempDir) -> Audit {
    let [first, second] = ["coordinator", "learner"].map(|name| folder.path().join(name));
    let run = Digest::of(b"run");
    audit_both(Log { path: &first, run }, Log { path: &second, run }).unwrap()
}

/// Every unknown as invariant and number of events.
fn unknown(audit: &Audit) -> Vec<(&'static str, u64)> {
    audit.unknown.iter().map(|unknown| (unknown.invariant, unknown.events)).collect()
}

const ORIGIN: &str = "every group that arrived was leased to the worker, lease and epoch that it names";
const COMPLETED: &str = "every completed lease reached the learner";
const LEASED: &str = "no group was trained on that was never leased";
const VERSIONS: &str = "versions agree in both logs";
const ACCOUNT: &str = "leased = trained + dropped + refused + expired + in flight";

#[test]
fn an_eventful_but_correct_run_is_clean_over_both_logs_and_accounted_for_as_in_one_process() {
    let audit = audited(&logged(two_logs()));
    assert_eq!((&audit.violations[..], &audit.unknown[..], audit.clean), (&[][..], &[][..], true));
    let account = audit.account.unwrap();
    let Account { leased, trained, dropped, refused, expired, in_flight, unknown, .. } = account;
    assert_eq!((leased, trained, dropped, refused, expired, in_flight, unknown), (14, 8, 3, 1, 2, 0, 0));
    assert_eq!(audit.version, 4);
    for invariant in [SAME_RUN, ORIGIN, COMPLETED, LEASED, VERSIONS, ACCOUNT, "a batch holds exactly its groups"] {
        assert_eq!(audit.checked.iter().filter(|checked| **checked == invariant).count(), 1, "{:?}", audit.checked);
    }
}

/// An edit of one log, the invariant it breaks and a part of what is said.
const EDITS: &[(&str, &str, &str, &str)] = &[
    (
        "learner",
        "UPDATE groups SET worker = 9 WHERE group_id = 6",
        ORIGIN,
        "group 6 arrived from worker 9 under lease 3 with epoch 1099511627783, which was never granted to it",
    ),
    (
        "learner",
        "UPDATE groups SET lease = 9 WHERE group_id = 6",
        ORIGIN,
        "group 6 arrived from worker 3 under lease 9 with epoch 1099511627783, which was never granted to it",
    ),
    (
        "learner",
        "UPDATE groups SET epoch = epoch + 90 WHERE group_id = 6",
        ORIGIN,
        "group 6 arrived from worker 3 under lease 3 with epoch 1099511627873, which was never granted to it",
    ),
    (
        "coordinator",
        "UPDATE leases SET end_group = 7 WHERE lease = 3",
        ORIGIN,
        "group 7 arrived from worker 3 under lease 3 with epoch 1099511627783, which was never granted to it for that group",
    ),
    (
        "coordinator",
        "UPDATE leases SET event = 'completed' WHERE event = 'released'",
        COMPLETED,
        "lease 3 with epoch 1099511627782 was completed with 0 of its 2 groups received",
    ),
    (
        "learner",
        "DELETE FROM groups WHERE group_id = 7",
        COMPLETED,
        "lease 3 with epoch 1099511627783 was completed with 1 of its 2 groups received",
    ),
    (
        "coordinator",
        "DELETE FROM leases WHERE epoch & 255 = 5",
        LEASED,
        "group 4 of version 1 was trained on into version 3 and never leased with that version",
    ),
    (
        "learner",
        "UPDATE groups SET version = 1 WHERE group_id = 6",
        VERSIONS,
        "group 6 arrived with version 1, lease 3 was granted with version 2",
    ),
    (
        "coordinator",
        "UPDATE leases SET version = 9 WHERE epoch & 255 = 7",
        VERSIONS,
        "lease 3 was granted with version 9, which no learner has had",
    ),
    (
        "learner",
        "DELETE FROM versions WHERE version = 4",
        VERSIONS,
        "coordinator 1 heard that the run is over at version 4, the learner had come to version 3",
    ),
    (
        "coordinator",
        "DELETE FROM leases WHERE epoch & 255 = 1",
        ACCOUNT,
        "8 groups were trained on up to here, 6 of them under a lease",
    ),
];

#[test]
fn every_invariant_that_is_broken_across_the_logs_is_found_and_named() {
    for (log, sql, invariant, says) in EDITS {
        let folder = logged(two_logs());
        edit(&folder, log, sql);
        let audit = audited(&folder);
        let found = |violation: &Violation| violation.invariant == *invariant && violation.message.contains(says);
        assert!(audit.violations.iter().any(found), "{sql}: expected {says}, found {:#?}", audit.violations);
        assert!(!audit.clean);
    }
}

#[test]
fn logs_of_two_runs_are_told_apart_and_nothing_else_is_said_of_them() {
    let folder = logged(two_logs());
    let [first, second] = ["coordinator", "learner"].map(|name| folder.path().join(name));
    let (run, other) = (Digest::of(b"run"), Digest::of(b"other"));
    let audit = audit_both(Log { path: &first, run }, Log { path: &second, run: other }).unwrap();
    assert_eq!((audit.clean, audit.violations.len(), audit.account), (false, 1, None));
    assert_eq!(audit.violations[0].invariant, SAME_RUN);
    assert!(audit.violations[0].message.contains(&other.short()), "{:?}", audit.violations);
    edit(&folder, "learner", "UPDATE run SET value = '5' WHERE key = 'total_batches'");
    assert_eq!(audited(&folder).violations[0].invariant, SAME_RUN);
}

#[test]
fn a_log_of_another_role_and_a_learner_with_leases_of_its_own_are_refused() {
    let folder = logged(two_logs());
    let [first, second] = ["coordinator", "learner"].map(|name| folder.path().join(name));
    let log = |path| Log { path, run: Digest::of(b"run") };
    assert!(matches!(audit_both(log(&second), log(&first)), Err(JointError::Role { role: "coordinator", .. })));
    assert!(matches!(audit_both(log(&first), log(&first)), Err(JointError::Role { role: "learner", .. })));
    let [coordinator, learner] = two_logs();
    let both = logged([coordinator.clone(), [&learner[..], &coordinator[1..2]].concat()]);
    let [first, second] = ["coordinator", "learner"].map(|name| both.path().join(name));
    assert!(matches!(audit_both(log(&first), log(&second)), Err(JointError::OwnLeases { .. })));
    let nowhere = both.path().join("nowhere");
    let missing = audit_both(log(&first), log(&nowhere));
    assert!(matches!(missing, Err(JointError::Database(RunDatabaseError::Missing { .. }))));
    assert!(!nowhere.exists());
}

#[test]
fn what_a_coordinator_may_have_granted_after_the_end_of_its_log_is_unknown_and_no_violation() {
    let [mut coordinator, learner] = two_logs();
    // The last grant, its completion and the end of the run.
    let end = coordinator.split_off(coordinator.len() - 3);
    coordinator.push(started(2, 1, 0)[0].clone());
    // The next coordinator knows nothing of the grant, and believes its holder.
    let RunEvent::Lease(lost) = &end[0] else { unreachable!() };
    for change in [LeaseChange::Adopted, LeaseChange::Completed] {
        coordinator.push(RunEvent::Lease(LeaseRecord { coordinator: Incarnation(2), change, ..lost.clone() }));
    }
    let audit = audited(&logged([coordinator.clone(), learner.clone()]));
    assert_eq!((&audit.violations[..], audit.clean), (&[][..], true));
    assert_eq!(unknown(&audit), [(ORIGIN, 2), (LEASED, 2)]);
    assert!(audit.unknown[0].why.contains("a coordinator did not end in good order"));
    assert_eq!(audit.account.map(|account| (account.leased, account.trained)), Some((12, 6)));
    // A grant before one that is there cannot have been lost with the end.
    let folder = logged([coordinator, learner]);
    edit(&folder, "coordinator", "DELETE FROM leases WHERE epoch & 255 = 5");
    let audit = audited(&folder);
    assert!(audit.violations.iter().any(|violation| violation.invariant == ORIGIN), "{audit:#?}");
}

#[test]
fn what_a_learner_may_have_received_after_the_end_of_its_log_is_unknown_and_no_violation() {
    let [coordinator, mut learner] = two_logs();
    // Both groups of the last batch, its step, an evaluation and the end.
    let end = learner.split_off(learner.len() - 5);
    let audit = audited(&logged([coordinator.clone(), learner.clone()]));
    assert_eq!((&audit.violations[..], audit.clean), (&[][..], true));
    assert_eq!(unknown(&audit), [(COMPLETED, 1), (VERSIONS, 1)]);
    let account = audit.account.unwrap();
    assert_eq!((account.leased, account.trained, account.unknown), (14, 6, 2));
    // A learner that has ended in good order has lost nothing.
    learner.push(end.last().unwrap().clone());
    let audit = audited(&logged([coordinator, learner]));
    assert_eq!(unknown(&audit), []);
    assert!(audit.violations.iter().any(|violation| violation.invariant == COMPLETED), "{audit:#?}");
}

#[test]
fn a_learner_that_died_may_have_lost_its_last_groups_but_none_of_a_lease_that_its_successor_received() {
    let [coordinator, learner] = two_logs();
    // The first learner's last group, and its last step.
    let lost = |event: &RunEvent| {
        let first = Incarnation(1);
        matches!(event, RunEvent::Arrival(ArrivalRecord { learner, group, .. }) if *learner == first && group.0 == 5)
            || matches!(event, RunEvent::Step(step) if step.learner == first && step.version.0 == 3)
    };
    let kept: Vec<_> = learner.iter().filter(|event| !lost(event)).cloned().collect();
    assert_eq!(learner.len() - kept.len(), 2);
    let audit = audited(&logged([coordinator, kept]));
    assert_eq!((&audit.violations[..], audit.clean), (&[][..], true));
    assert_eq!(unknown(&audit), [(COMPLETED, 1)]);
}
