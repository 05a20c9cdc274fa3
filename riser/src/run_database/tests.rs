use super::*;
use crate::{room::Room, run_log::RunLog};
use riser_core::{ids::PolicyVersion, lockstep::Lockstep};
use tokio_util::sync::CancellationToken;

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
fn a_writer_writes_everything_in_order_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let database = RunDatabase::open(&path, &facts()).unwrap();
    let room = Room::new(CancellationToken::new(), |_| panic!("nothing is waited for"));
    let (log, sender) = RunLog::start(database, || 7.0, room).unwrap();
    (0..3000).for_each(|version| sender.blocking_send(checkpoint(version)).unwrap());
    drop(sender);
    log.finish().unwrap();
    let written = rows(&path);
    assert_eq!(written.iter().map(|row| row.2).collect::<Vec<_>>(), (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_writer_that_fails_stops_the_run_and_lets_the_senders_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let database = RunDatabase::open(&path, &facts()).unwrap();
    Connection::open(&path).unwrap().execute_batch("DROP TABLE checkpoints").unwrap();
    let stop = CancellationToken::new();
    let room = Room::new(stop.clone(), |_| panic!("nothing is waited for"));
    let (log, sender) = RunLog::start(database, || 7.0, room).unwrap();
    sender.blocking_send(checkpoint(1)).unwrap();
    let message = log.finish().unwrap_err().to_string();
    assert!(message.contains("no such table: checkpoints"), "{message}");
    assert!(stop.is_cancelled());
    assert!(sender.blocking_send(checkpoint(2)).is_err());
}

fn set_limit(database: &RunDatabase, pages: i64) {
    database.connection.pragma_update(None, "max_page_count", pages).unwrap();
}

/// SQLite takes a limit of pages for a full disk.
fn without_room(path: &Path) -> RunDatabase {
    let database = RunDatabase::open(path, &facts()).unwrap();
    set_limit(&database, 1);
    database
}

#[test]
fn a_database_without_room_says_so_and_adds_none_of_the_events_until_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let mut database = without_room(&path);
    let events: Vec<_> = (0..3000).map(checkpoint).collect();
    for _ in 0..2 {
        let error = database.append(5.0, &events).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!(rows(&path), []);
    }
    set_limit(&database, 1 << 20);
    database.append(6.0, &events).unwrap();
    assert_eq!(rows(&path), (0..3000).map(|version| (version + 1, 6.0, version)).collect::<Vec<_>>());
}

#[test]
fn a_writer_without_room_waits_and_then_writes_everything_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let mut database = without_room(&path);
    let (stop, mut attempts) = (CancellationToken::new(), 0);
    let (told, complaints) = std::sync::mpsc::channel();
    let room = Room::impatient(stop.clone(), move |what| told.send(what.to_owned()).unwrap());
    let (log, sender) = RunLog::writing(room, move |events| {
        attempts += 1;
        set_limit(&database, if attempts < 50 { 1 } else { 1 << 20 });
        database.append(7.0, events)
    })
    .unwrap();
    let written = log.written();
    let evaluation = RunEvent::Evaluation {
        learner: Incarnation(1),
        version: PolicyVersion(1),
        metrics: BTreeMap::new(),
        seconds: 0.5,
    };
    sender.blocking_send(evaluation).unwrap();
    (0..3000).for_each(|version| sender.blocking_send(checkpoint(version)).unwrap());
    assert_eq!(*written.borrow(), 1);
    drop(sender);
    log.finish().unwrap();
    assert_eq!(rows(&path), (0..3000).map(|version| (version + 2, 7.0, version)).collect::<Vec<_>>());
    assert!(!stop.is_cancelled());
    assert!(complaints.try_recv().unwrap().starts_with("run.db waits for room: "));
}
