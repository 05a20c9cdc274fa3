use super::*;
use riser_core::{
    bounded::Bounded,
    digest::Digest,
    ids::{GroupId, Incarnation, PolicyVersion, WorkerId},
    lease::{LeaseEpoch, LeaseId},
    lockstep::Lockstep,
    pacing::Pacing,
    run_event::{ArrivalFate, ArrivalRecord, LeaseChange, LeaseRecord, Origin, RunEvent, StepRecord},
};
use std::collections::BTreeMap;

const SIZE: u64 = 2;

pub(super) fn lockstep() -> RunFacts {
    let lockstep = Lockstep { groups_per_batch: 2.try_into().unwrap(), lag: 1 };
    RunFacts { pacing: Pacing::Lockstep(lockstep), total_batches: 4 }
}

fn bounded() -> RunFacts {
    let bounded = Bounded { groups_per_batch: 2.try_into().unwrap(), max_staleness: 1 };
    RunFacts { pacing: Pacing::Bounded(bounded), total_batches: 4 }
}

fn digest(version: u64) -> Digest {
    Digest::of(&version.to_le_bytes())
}

pub(super) fn started(coordinator: u32, learner: u32, version: u64) -> [RunEvent; 2] {
    let (catalog, learner) = (Digest::of(b"catalog"), Incarnation(learner));
    [
        RunEvent::CoordinatorStarted { coordinator: Incarnation(coordinator) },
        RunEvent::LearnerStarted { learner, version: PolicyVersion(version), digest: digest(version), catalog },
    ]
}

/// Lease `batch`, which holds exactly the groups of that batch.
pub(super) fn lease(coordinator: u32, batch: u64, grant: u64, change: LeaseChange) -> RunEvent {
    RunEvent::Lease(LeaseRecord {
        coordinator: Incarnation(coordinator),
        lease: LeaseId(batch),
        epoch: LeaseEpoch(grant),
        worker: WorkerId(3),
        version: PolicyVersion(batch.saturating_sub(1)),
        groups: batch * SIZE..(batch + 1) * SIZE,
        change,
    })
}

pub(super) fn arrival(learner: u32, group: u64, grant: u64, fate: ArrivalFate) -> RunEvent {
    let batch = group / SIZE;
    RunEvent::Arrival(ArrivalRecord {
        learner: Incarnation(learner),
        group: GroupId(group),
        version: PolicyVersion(batch.saturating_sub(1)),
        origin: Origin { worker: WorkerId(3), lease: LeaseId(batch), epoch: LeaseEpoch(grant) },
        bytes: 100,
        fate,
    })
}

pub(super) fn step(learner: u32, batch: u64) -> RunEvent {
    let group = |group| (GroupId(group), PolicyVersion(batch.saturating_sub(1)), Digest::of(b"catalog"));
    RunEvent::Step(StepRecord {
        learner: Incarnation(learner),
        version: PolicyVersion(batch + 1),
        digest: digest(batch + 1),
        groups: (batch * SIZE..(batch + 1) * SIZE).map(group).collect(),
        wait_seconds: 0.5,
        learn_seconds: 1.5,
        metrics: BTreeMap::from([("loss".to_owned(), 0.25), ("grad_norm".to_owned(), f64::NAN)]),
    })
}

/// A batch that is leased, delivered and trained on without an incident.
pub(super) fn plain_batch(learner: u32, batch: u64, grant: u64) -> Vec<RunEvent> {
    let groups = [batch * SIZE, batch * SIZE + 1].map(|group| arrival(learner, group, grant, ArrivalFate::Admitted));
    let [first, second] = groups;
    let (granted, completed) = (LeaseChange::Granted, LeaseChange::Completed);
    vec![lease(1, batch, grant, granted), first, second, lease(1, batch, grant, completed), step(learner, batch)]
}

/// Four batches with incidents: a lease that expires and is delivered all the same, a learner that is killed at version 3
/// and goes on from version 2, and a lease that is out when the run ends.
pub(super) fn eventful_run() -> Vec<RunEvent> {
    use LeaseChange::{Completed, Expired, Granted, Released};
    let mut events: Vec<RunEvent> = started(1, 1, 0).into();
    events.extend(plain_batch(1, 0, 1));
    // Batch 1: the first holder expires, the second delivers, the first is late; one group of it is refused.
    events.push(lease(1, 1, 2, Granted));
    events.push(lease(1, 1, 2, Expired));
    events.push(lease(1, 1, 3, Granted));
    events.extend([2, 3].map(|group| arrival(1, group, 3, ArrivalFate::Admitted)));
    events.push(lease(1, 1, 3, Completed));
    events.push(arrival(1, 2, 2, ArrivalFate::Duplicate));
    events.push(arrival(1, 3, 2, ArrivalFate::Untimely("too late".to_owned())));
    events.push(step(1, 1));
    events.push(RunEvent::Checkpoint {
        learner: Incarnation(1),
        version: PolicyVersion(2),
        folder: "checkpoints/step-00000002".into(),
    });
    // Batch 2 is trained on by a learner that dies, and again.
    events.extend(plain_batch(1, 2, 4));
    events.push(started(1, 2, 2)[1].clone());
    events.extend(plain_batch(2, 2, 5));
    events.push(lease(1, 3, 6, Granted));
    events.push(lease(1, 3, 6, Released));
    events.extend(plain_batch(2, 3, 7));
    let learner = Incarnation(2);
    let metrics = BTreeMap::from([("HR@10".to_owned(), 0.5)]);
    events.push(RunEvent::Evaluation { learner, version: PolicyVersion(4), metrics, seconds: 2.0 });
    events.push(RunEvent::LearnerEnded { learner, version: PolicyVersion(4), finished: true });
    events
}

/// A folder with the log of `events`.
fn logged(facts: &RunFacts, events: &[RunEvent]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut database = RunDatabase::open(&folder.path().join("run.db"), facts).unwrap();
    for (index, chunk) in events.chunks(3).enumerate() {
        database.append(1e9 + index as f64, chunk).unwrap();
    }
    folder
}

fn audited(folder: &tempfile::TempDir) -> Audit {
    audit(&folder.path().join("run.db")).unwrap()
}

#[test]
fn an_eventful_but_correct_run_is_clean_and_every_copy_is_accounted_for() {
    let audit = audited(&logged(&lockstep(), &eventful_run()));
    assert_eq!(audit.violations, []);
    assert!(audit.clean);
    assert_eq!((audit.version, audit.schedule, audit.max_staleness), (4, "lockstep", 1));
    let Account { leased, trained, dropped, refused, expired, in_flight, .. } = audit.account.unwrap();
    // Seven grants of two groups. Dropped: the late copy of group 2, and both of the learner that died.
    assert_eq!((leased, trained, dropped, refused, expired, in_flight), (14, 8, 3, 1, 2, 0));
    assert_eq!(audit.checked.len(), 7, "{:?}", audit.checked);
}

#[test]
fn a_run_that_goes_on_has_copies_in_flight() {
    let mut events = eventful_run();
    events.truncate(events.len() - 4);
    // Without the end of the run, the last step and the completion before it.
    let audit = audited(&logged(&lockstep(), &events));
    assert_eq!(audit.violations, []);
    let account = audit.account.unwrap();
    assert_eq!((account.leased, account.trained, account.in_flight), (14, 6, 2));
}

#[test]
fn a_log_without_a_coordinator_is_audited_for_what_a_learner_knows() {
    let events: Vec<_> = eventful_run()
        .into_iter()
        .filter(|event| !matches!(event, RunEvent::Lease(_) | RunEvent::CoordinatorStarted { .. }))
        .collect();
    let audit = audited(&logged(&lockstep(), &events));
    assert!(audit.clean, "{:?}", audit.violations);
    assert_eq!(audit.checked.len(), 5, "{:?}", audit.checked);
    assert_eq!(audit.account, None);
}

#[test]
fn a_log_of_the_coordinator_alone_is_audited_for_its_leases() {
    let events: Vec<_> = eventful_run()
        .into_iter()
        .filter(|event| matches!(event, RunEvent::Lease(_) | RunEvent::CoordinatorStarted { .. }))
        .collect();
    let audit = audited(&logged(&lockstep(), &events));
    assert_eq!(audit.violations, []);
    assert_eq!((audit.checked, audit.account), (vec!["a lease is granted once and ends once"], None));
}

#[test]
fn a_run_that_went_on_with_a_coordinator_elsewhere_has_no_account() {
    let folder = logged(&lockstep(), &eventful_run());
    let mut database = RunDatabase::open(&folder.path().join("run.db"), &lockstep()).unwrap();
    database.coordinated_elsewhere().unwrap();
    // What it leased is in another log.
    let connection = Connection::open(folder.path().join("run.db")).unwrap();
    assert!(connection.execute("DELETE FROM leases WHERE epoch = 7", []).unwrap() > 0);
    let audit = audited(&folder);
    assert_eq!(audit.violations, []);
    assert_eq!((audit.checked.len(), audit.account), (6, None));
}

/// An edit of the log, the invariant it breaks, where to find the event that breaks it, and a part of what is said.
struct Edit {
    sql: &'static str,
    invariant: &'static str,
    event: &'static str,
    says: &'static str,
}

const EDITS: &[Edit] = &[
    Edit {
        sql: "UPDATE batches SET group_version = 0 WHERE group_id = 7",
        invariant: "staleness is within the bound when trained on",
        event: "SELECT id FROM batches WHERE group_id = 7",
        says: "group 7 of version 0 was trained on at version 3, the bound is 1",
    },
    Edit {
        sql: "UPDATE batches SET group_version = 9 WHERE group_id = 7",
        invariant: "staleness is within the bound when trained on",
        event: "SELECT id FROM batches WHERE group_id = 7",
        says: "group 7 of version 9 was trained on at version 3",
    },
    Edit {
        sql: "UPDATE batches SET group_version = 3 WHERE group_id = 7",
        invariant: "staleness is within the bound when trained on",
        event: "SELECT id FROM batches WHERE group_id = 7",
        says: "group 7 of batch 3 was sampled with version 3 instead of 2",
    },
    Edit {
        sql: "UPDATE batches SET group_id = 0 WHERE group_id = 7",
        invariant: "a group is trained on at most once",
        event: "SELECT max(id) FROM batches WHERE group_id = 0",
        says: "group 0 was trained on into version 4, and before that into version 1",
    },
    Edit {
        sql: "UPDATE groups SET fate = 'admitted' WHERE fate = 'duplicate'",
        invariant: "a group is trained on at most once",
        event: "SELECT max(id) FROM groups WHERE group_id = 2",
        says: "group 2 was admitted a second time by learner 1",
    },
    Edit {
        sql: "DELETE FROM groups WHERE group_id = 6",
        invariant: "a group is trained on at most once",
        event: "SELECT id FROM batches WHERE group_id = 6",
        says: "group 6 of version 2 was trained on without having been admitted",
    },
    Edit {
        sql: "UPDATE versions SET version = 5 WHERE version = 4",
        invariant: "versions grow by one and survive restarts",
        event: "SELECT id FROM versions WHERE version = 5",
        says: "version 5 follows version 3",
    },
    Edit {
        sql: "UPDATE sessions SET digest = 'other' WHERE role = 'learner' AND incarnation = 2 AND event = 'started'",
        invariant: "versions grow by one and survive restarts",
        event: "SELECT id FROM sessions WHERE digest = 'other'",
        says: "learner 2 started at version 2 with another policy than was trained",
    },
    Edit {
        sql: "UPDATE versions SET digest = 'other' WHERE version = 3 AND learner = 2",
        invariant: "versions grow by one and survive restarts",
        event: "SELECT id FROM versions WHERE digest = 'other'",
        says: "version 3 was trained again to another policy",
    },
    Edit {
        sql: "INSERT INTO sessions SELECT 1000, at, role, 3, event, 3, digest, catalog, finished FROM sessions
              WHERE role = 'learner' AND incarnation = 2 AND event = 'started'",
        invariant: "versions grow by one and survive restarts",
        event: "SELECT 1000",
        says: "learner 3 started at version 3, learner 2 had ended at version 4",
    },
    Edit {
        sql: "UPDATE run SET value = '3' WHERE key = 'total_batches'",
        invariant: "versions grow by one and survive restarts",
        event: "SELECT id FROM versions WHERE version = 4",
        says: "version 4 is beyond the end of the run, 3",
    },
    Edit {
        sql: "UPDATE batches SET catalog = 'other' WHERE group_id = 3",
        invariant: "no batch mixes catalogs",
        event: "SELECT id FROM batches WHERE group_id = 3",
        says: "group 3 of batch 1 is of another catalog than its batch",
    },
    Edit {
        sql: "DELETE FROM batches WHERE group_id = 7",
        invariant: "a batch holds exactly its groups",
        event: "SELECT id FROM versions WHERE version = 4",
        says: "version 4 was trained on 1 groups, a batch has 2",
    },
    Edit {
        sql: "UPDATE batches SET group_id = 9 WHERE group_id = 7",
        invariant: "a batch holds exactly its groups",
        event: "SELECT id FROM batches WHERE group_id = 9",
        says: "group 9 is no part of batch 3",
    },
    Edit {
        sql: "UPDATE leases SET epoch = 2 WHERE epoch = 3 AND event = 'granted'",
        invariant: "a lease is granted once and ends once",
        event: "SELECT max(id) FROM leases WHERE epoch = 2",
        says: "lease 1 was granted with epoch 2 after epoch 2",
    },
    Edit {
        sql: "UPDATE leases SET event = 'adopted' WHERE epoch = 5 AND event = 'granted'",
        invariant: "a lease is granted once and ends once",
        event: "SELECT id FROM leases WHERE event = 'adopted'",
        says: "lease 2 was adopted with epoch 5, which was never granted",
    },
    Edit {
        sql: "UPDATE leases SET event = 'completed' WHERE epoch = 2 AND event = 'granted'",
        invariant: "a lease is granted once and ends once",
        event: "SELECT id FROM leases WHERE epoch = 2 AND event = 'completed'",
        says: "lease 1 with epoch 2 is completed without having been granted",
    },
    Edit {
        sql: "INSERT INTO leases SELECT 1000, at, coordinator, lease, epoch, worker, version, first_group, end_group,
              'expired' FROM leases WHERE epoch = 3 AND event = 'completed'",
        invariant: "a lease is granted once and ends once",
        event: "SELECT 1000",
        says: "lease 1 with epoch 3 is expired after its end",
    },
    Edit {
        sql: "UPDATE groups SET epoch = 99 WHERE group_id = 6",
        invariant: "leased = trained + dropped + refused + expired + in flight",
        event: "SELECT id FROM groups WHERE epoch = 99",
        says: "group 6 arrived under lease 3 with epoch 99, which was never granted for it",
    },
    Edit {
        sql: "UPDATE leases SET event = 'completed' WHERE event = 'released'",
        invariant: "leased = trained + dropped + refused + expired + in flight",
        event: "SELECT id FROM leases WHERE epoch = 6 AND event = 'completed'",
        says: "lease 3 with epoch 6 was completed with 0 of its 2 groups received",
    },
    Edit {
        sql: "DELETE FROM leases WHERE epoch = 1",
        invariant: "leased = trained + dropped + refused + expired + in flight",
        event: "SELECT max(id) FROM batches",
        says: "8 groups were trained on up to here, 6 of them under a lease",
    },
];

#[test]
fn every_broken_invariant_is_found_and_the_event_that_breaks_it_is_named() {
    for Edit { sql, invariant, event, says } in EDITS {
        let folder = logged(&lockstep(), &eventful_run());
        let connection = Connection::open(folder.path().join("run.db")).unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql} changes nothing");
        let event: i64 = connection.query_row(event, [], |row| row.get(0)).unwrap();
        drop(connection);
        let audit = audited(&folder);
        assert!(!audit.clean);
        let found = audit.violations.iter().any(|violation| {
            violation.invariant == *invariant && violation.event == event && violation.message.contains(says)
        });
        assert!(found, "{sql}: expected event {event}: {says}, found {:#?}", audit.violations);
    }
}

#[test]
fn a_bounded_run_may_train_in_any_order_but_not_twice_nor_too_late() {
    let mut events: Vec<RunEvent> = started(1, 1, 0).into();
    let mixed = |group: (u64, u64)| (GroupId(group.0), PolicyVersion(group.1), Digest::of(b"catalog"));
    for (batch, groups) in [[(1, 0), (2, 0)], [(0, 0), (3, 1)]].into_iter().enumerate() {
        for (group, version) in groups {
            let grant = 10 * (batch as u64 + 1) + group;
            let RunEvent::Lease(record) = lease(1, group / SIZE, grant, LeaseChange::Granted) else { unreachable!() };
            let record = LeaseRecord { groups: group..group + 1, version: PolicyVersion(version), ..record };
            events.push(RunEvent::Lease(record.clone()));
            let RunEvent::Arrival(arrived) = arrival(1, group, grant, ArrivalFate::Admitted) else { unreachable!() };
            events.push(RunEvent::Arrival(ArrivalRecord { version: PolicyVersion(version), ..arrived }));
            events.push(RunEvent::Lease(LeaseRecord { change: LeaseChange::Completed, ..record }));
        }
        let RunEvent::Step(record) = step(1, batch as u64) else { unreachable!() };
        events.push(RunEvent::Step(StepRecord { groups: groups.map(mixed).to_vec(), ..record }));
    }
    let folder = logged(&bounded(), &events);
    assert_eq!(audited(&folder).violations, []);
    // The same log would not do in lockstep.
    let folder = logged(&lockstep(), &events);
    assert!(!audited(&folder).clean);
}

/// Grants are numbered, so a log shows whether one is missing or the end is.
#[test]
fn a_log_whose_end_was_lost_with_its_coordinator_is_clean_and_one_with_a_hole_is_not() {
    let epoch = |grant| LeaseEpoch::new(Incarnation(1), grant).0;
    let log = |grants: &[u64], adopted: u64| {
        let mut events = vec![started(1, 1, 0)[0].clone()];
        events.extend(grants.iter().map(|&grant| lease(1, grant, epoch(grant), LeaseChange::Granted)));
        events.push(started(2, 1, 0)[0].clone());
        events.push(lease(2, adopted, epoch(adopted), LeaseChange::Adopted));
        audited(&logged(&lockstep(), &events)).clean
    };
    assert!(log(&[1, 2], 2) && log(&[1, 2], 3) && log(&[], 1));
    assert!(!log(&[1, 3], 2));
}

#[test]
fn what_a_learner_elsewhere_has_trained_is_not_missed_in_a_log_that_says_so() {
    let learner = Incarnation(1);
    let ended = RunEvent::LearnerEnded { learner, version: PolicyVersion(0), finished: false };
    let events = [started(1, 1, 0)[1].clone(), ended, started(1, 3, 2)[1].clone()];
    let folder = logged(&bounded(), &events);
    assert!(!audited(&folder).clean);
    RunDatabase::open(&folder.path().join("run.db"), &bounded()).unwrap().trained_elsewhere().unwrap();
    assert_eq!(audited(&folder).violations, []);
}

#[test]
fn a_file_that_is_no_log_or_of_another_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.db");
    assert!(matches!(audit(&path), Err(RunDatabaseError::Missing { .. })));
    std::fs::write(&path, "not a database, but long enough to be looked at").unwrap();
    assert!(matches!(audit(&path), Err(RunDatabaseError::Sqlite { .. })));
    std::fs::remove_file(&path).unwrap();
    drop(RunDatabase::open(&path, &lockstep()).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(matches!(audit(&path), Err(RunDatabaseError::Format { got: 7, .. })));
}
