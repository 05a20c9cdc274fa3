use super::*;
use bytes::Bytes;
use riser_core::lockstep::Lockstep;
use riser_core::snapshot::{SnapshotTensor, TensorDtype};
use riser_proto::policy::{PolicyAssembler, ReceivedPolicy};

const SETTINGS: SubscriptionSettings =
    SubscriptionSettings { heartbeat: Duration::from_secs(10), subscriber_timeout: Duration::from_secs(60) };

fn snapshot(version: u64) -> PolicySnapshot {
    let value = Bytes::copy_from_slice(&(version as f32).to_le_bytes());
    let tensor = SnapshotTensor::new("w", vec![1], TensorDtype::F32, value).unwrap();
    PolicySnapshot::new(PolicyVersion(version), vec![tensor]).unwrap()
}

fn publisher(lag: u32) -> (Publisher, watch::Receiver<Shelf>) {
    Publisher::new(Pacing::Lockstep(Lockstep { groups_per_batch: 1.try_into().unwrap(), lag }))
}

type Messages = mpsc::Receiver<Result<PolicyChunk, Status>>;

/// A subscription whose task ends with the test's runtime.
fn subscribe(shelf: &watch::Receiver<Shelf>, after: Option<u64>) -> Messages {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(feed(shelf.clone(), after.map(PolicyVersion), sender, SETTINGS, CancellationToken::new()));
    receiver
}

async fn next(messages: &mut Messages) -> Option<ReceivedPolicy> {
    let mut assembler = PolicyAssembler::new(1 << 10);
    loop {
        if let Some(received) = assembler.push(messages.recv().await?.unwrap()).unwrap() {
            return Some(received);
        }
    }
}

#[test]
fn the_shelf_holds_the_newest_version_and_as_many_before_it_as_the_lag() {
    let (publisher, shelf) = publisher(2);
    for version in 0..6 {
        publisher.publish(snapshot(version));
    }
    let versions: Vec<u64> = shelf.borrow().iter().map(|snapshot| snapshot.version().0).collect();
    assert_eq!(versions, [3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_gets_what_is_retained_and_then_what_is_new_from_where_it_stands() {
    let (publisher, shelf) = publisher(1);
    publisher.publish(snapshot(4));
    publisher.publish(snapshot(5));
    let (mut fresh, mut returning) = (subscribe(&shelf, None), subscribe(&shelf, Some(4)));
    let received = next(&mut fresh).await.unwrap();
    assert_eq!((received.snapshot, received.oldest), (snapshot(4), PolicyVersion(4)));
    assert_eq!(next(&mut fresh).await.unwrap().snapshot, snapshot(5));
    assert_eq!(next(&mut returning).await.unwrap().snapshot, snapshot(5));
    publisher.publish(snapshot(6));
    for subscriber in [&mut fresh, &mut returning] {
        let received = next(subscriber).await.unwrap();
        assert_eq!((received.snapshot, received.oldest), (snapshot(6), PolicyVersion(5)));
    }
    drop(publisher);
    assert_eq!(next(&mut fresh).await, None);
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_heartbeats() {
    let (publisher, shelf) = publisher(0);
    let mut subscriber = subscribe(&shelf, None);
    let asked = tokio::time::Instant::now();
    assert_eq!(subscriber.recv().await.unwrap().unwrap(), policy::heartbeat());
    assert_eq!(asked.elapsed(), SETTINGS.heartbeat);
    publisher.publish(snapshot(0));
    assert_eq!(next(&mut subscriber).await.unwrap().snapshot, snapshot(0));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_takes_nothing_is_dropped() {
    let (publisher, shelf) = publisher(0);
    publisher.publish(snapshot(0));
    let (sender, mut frozen) = mpsc::channel(1);
    feed(shelf, None, sender, SETTINGS, CancellationToken::new()).await;
    assert!(frozen.recv().await.is_some(), "the one message that fitted");
    assert!(frozen.recv().await.is_none());
}
