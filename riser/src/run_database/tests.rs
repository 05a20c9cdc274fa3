use super::*;
use crate::run_log::RunLog;
use riser_core::{ids::PolicyVersion, lockstep::Lockstep};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

fn facts() -> RunFacts {
    let lockstep = Lockstep { groups_per_batch: 2.try_into().unwrap(), lag: 1 };
    RunFacts { pacing: Pacing::Lockstep(lockstep), total_batches: 4 }
}

fn checkpoint(version: u64) -> RunEvent {
    RunEvent::Checkpoint { learner: Incarnation(1), version: PolicyVersion(version), folder: "folder".into() }
}

fn rows(path: &Path) -> Vec<(i64, f64, i64)> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT id, at, version FROM checkpoints ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn events_are_numbered_across_tables_and_across_openings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let mut database = RunDatabase::open(&path, &facts()).unwrap();
    database.append(5.0, &[checkpoint(1), RunEvent::CoordinatorStarted { coordinator: Incarnation(1) }]).unwrap();
    drop(database);
    let mut database = RunDatabase::open(&path, &facts()).unwrap();
    database.append(6.0, &[checkpoint(2)]).unwrap();
    assert_eq!(rows(&path), [(1, 5.0, 1), (3, 6.0, 2)]);
    assert_eq!(RunDatabase::existing(&path).unwrap().1, facts());
}

#[test]
fn incarnations_grow_by_one_for_each_role_and_survive_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let mut numbers = vec![];
    for _ in 0..3 {
        let mut database = RunDatabase::open(&path, &facts()).unwrap();
        numbers.push(database.new_incarnation(Role::Learner).unwrap().0);
        // Nothing is closed in good order.
        std::mem::forget(database);
    }
    let mut database = RunDatabase::open(&path, &facts()).unwrap();
    assert_eq!((numbers, database.new_incarnation(Role::Coordinator).unwrap().0), (vec![1, 2, 3], 1));
}

#[test]
fn a_new_database_goes_on_beyond_numbers_that_another_one_gave_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = RunDatabase::open(&folder.path().join(FILE), &facts()).unwrap();
    database.go_beyond(Role::Learner, Incarnation(4)).unwrap();
    assert_eq!(database.new_incarnation(Role::Learner).unwrap(), Incarnation(5));
    database.go_beyond(Role::Learner, Incarnation(4)).unwrap();
    assert_eq!(database.new_incarnation(Role::Learner).unwrap(), Incarnation(6));
}

#[test]
fn that_a_run_is_over_is_known_to_whoever_opens_its_log_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let mut database = RunDatabase::open(&path, &facts()).unwrap();
    // Another connection writes the events meanwhile.
    let mut events = RunDatabase::open(&path, &facts()).unwrap();
    events.append(1.0, &[RunEvent::RunOver { coordinator: Incarnation(1) }]).unwrap();
    assert!(!database.is_over().unwrap());
    database.keep_end().unwrap();
    events.append(2.0, &[checkpoint(1)]).unwrap();
    assert!(RunDatabase::open(&path, &facts()).unwrap().is_over().unwrap());
}

#[test]
fn a_writer_writes_everything_in_order_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let database = RunDatabase::open(&path, &facts()).unwrap();
    let (log, sender) = RunLog::start(database, || 7.0, || panic!("nothing fails")).unwrap();
    (0..3000).for_each(|version| sender.blocking_send(checkpoint(version)).unwrap());
    drop(sender);
    log.finish().unwrap();
    let written = rows(&path);
    assert_eq!(written.iter().map(|row| row.2).collect::<Vec<_>>(), (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_writer_that_fails_says_so_once_and_lets_the_senders_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let database = RunDatabase::open(&path, &facts()).unwrap();
    Connection::open(&path).unwrap().execute_batch("DROP TABLE checkpoints").unwrap();
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    let (log, sender) = RunLog::start(database, || 7.0, move || tell.store(true, Ordering::SeqCst)).unwrap();
    sender.blocking_send(checkpoint(1)).unwrap();
    let message = log.finish().unwrap_err().to_string();
    assert!(message.contains("no such table: checkpoints"), "{message}");
    assert!(told.load(Ordering::SeqCst));
    assert!(sender.blocking_send(checkpoint(2)).is_err());
}
