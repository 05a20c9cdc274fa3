use super::*;
use crate::policy::{PolicyAssembler, ReceivedPolicy};
use riser_core::{
    delta::{Packing, encode},
    snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype},
};

const HEARTBEAT: Duration = Duration::from_secs(10);

const SETTINGS: FeedSettings =
    FeedSettings { heartbeat: Some(HEARTBEAT), subscriber_timeout: Duration::from_secs(60), max_subscribers: 2 };

/// A policy of 1,000 elements of which the first is the version.
fn snapshot(version: u64) -> PolicySnapshot {
    let mut values = vec![0.5; 1000];
    values[0] = version as f32;
    let bytes: Vec<u8> = values.iter().flat_map(|value: &f32| value.to_le_bytes()).collect();
    let tensor = SnapshotTensor::new("w", vec![1000], TensorDtype::F32, bytes.into()).unwrap();
    PolicySnapshot::new(PolicyVersion(version), vec![tensor]).unwrap()
}

/// The writing end of an offer that retains `lag` versions besides the newest.
struct Source {
    offer: watch::Sender<PolicyOffer>,
    ledger: EgressLedger,
    lag: u64,
}

impl Source {
    fn new(lag: u64) -> Self {
        Self { offer: watch::channel(PolicyOffer::default()).0, ledger: EgressLedger::default(), lag }
    }

    fn publish(&self, version: u64) {
        let policy = snapshot(version);
        self.offer.send_modify(|offer| {
            let base = offer.policies().last();
            let delta = base.map(|base| Arc::new(encode(base, &policy, Packing::Never).unwrap()));
            offer.add(Arc::new(policy), delta, PolicyVersion(version.saturating_sub(self.lag)));
        });
    }

    fn feeds(&self, settings: FeedSettings) -> PolicyFeeds {
        PolicyFeeds::new(self.offer.subscribe(), settings, self.ledger.clone(), CancellationToken::new())
    }

    fn subscribe(&self, held: Option<u64>) -> Subscriber {
        Subscriber::new(&self.feeds(SETTINGS), held)
    }
}

/// A receiving end that holds a policy already, or none.
struct Subscriber {
    messages: PolicyStream,
    assembler: PolicyAssembler,
}

impl Subscriber {
    fn new(feeds: &PolicyFeeds, held: Option<u64>) -> Self {
        let held = held.map(snapshot);
        let request = policy::subscription(held.as_ref().map(PolicySnapshot::identity), Some(5));
        let assembler = held.map_or(PolicyAssembler::new(1 << 20), |held| PolicyAssembler::holding(held, 1 << 20));
        Self { messages: feeds.subscribe(&request).unwrap(), assembler }
    }

    async fn message(&mut self) -> Option<PolicyChunk> {
        use tokio_stream::StreamExt;
        self.messages.next().await.map(Result::unwrap)
    }

    async fn next(&mut self) -> Option<ReceivedPolicy> {
        loop {
            let chunk = self.message().await?;
            if let Some(received) = self.assembler.push(chunk).unwrap() {
                return Some(received);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_gets_what_is_retained_and_then_what_is_new_from_where_it_stands() {
    let source = Source::new(1);
    source.publish(4);
    source.publish(5);
    let (mut fresh, mut returning) = (source.subscribe(None), source.subscribe(Some(4)));
    let received = fresh.next().await.unwrap();
    assert_eq!((received.snapshot, received.oldest, received.delta), (snapshot(4), PolicyVersion(4), None));
    assert_eq!(fresh.next().await.unwrap().snapshot, snapshot(5));
    assert_eq!(returning.next().await.unwrap().snapshot, snapshot(5));
    source.publish(6);
    for subscriber in [&mut fresh, &mut returning] {
        let received = subscriber.next().await.unwrap();
        assert_eq!((received.snapshot, received.oldest), (snapshot(6), PolicyVersion(5)));
        assert!(received.delta.is_some());
    }
    drop(source);
    assert_eq!(fresh.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_same_delta_is_shared_by_all_subscribers() {
    let source = Source::new(0);
    source.publish(0);
    let mut subscribers = [source.subscribe(Some(0)), source.subscribe(Some(0))];
    source.publish(1);
    let mut places = vec![];
    for subscriber in &mut subscribers {
        let manifest = subscriber.message().await.unwrap();
        assert!(matches!(manifest.part, Some(v1::policy_chunk::Part::Delta(_))));
        let Some(v1::policy_chunk::Part::Data(data)) = subscriber.message().await.unwrap().part else {
            panic!("data follows the manifest");
        };
        places.push(data.as_ptr());
    }
    assert_eq!(places[0], places[1]);
}

/// The learner never heard of the policy that the worker holds: it is another run's, or from a future that was lost.
#[tokio::test(start_paused = true)]
async fn a_subscriber_with_an_unknown_policy_is_sent_everything_whole() {
    let source = Source::new(0);
    source.publish(4);
    source.publish(5);
    let mut diverged = snapshot(5).identity();
    diverged.digest = snapshot(3).digest();
    let mut ahead = snapshot(9).identity();
    ahead.digest = snapshot(9).digest();
    for held in [diverged, ahead] {
        let mut messages = source.feeds(SETTINGS).subscribe(&policy::subscription(Some(held), None)).unwrap();
        let mut assembler = PolicyAssembler::new(1 << 20);
        let received = loop {
            use tokio_stream::StreamExt;
            if let Some(received) = assembler.push(messages.next().await.unwrap().unwrap()).unwrap() {
                break received;
            }
        };
        assert_eq!((received.snapshot, received.delta), (snapshot(5), None));
    }
    let mut request = policy::subscription(Some(diverged), None);
    request.digest = vec![0; 31].into();
    assert_eq!(source.feeds(SETTINGS).subscribe(&request).unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_heartbeats() {
    let source = Source::new(0);
    let mut subscriber = source.subscribe(None);
    let asked = tokio::time::Instant::now();
    assert_eq!(subscriber.message().await.unwrap(), policy::heartbeat());
    assert_eq!(asked.elapsed(), HEARTBEAT);
    source.publish(0);
    assert_eq!(subscriber.next().await.unwrap().snapshot, snapshot(0));
}

#[tokio::test(start_paused = true)]
async fn a_feed_without_heartbeats_of_its_own_hands_on_those_of_its_source() {
    let source = Source::new(0);
    source.publish(0);
    let feeds = source.feeds(FeedSettings { heartbeat: None, ..SETTINGS });
    let mut subscriber = Subscriber::new(&feeds, Some(0));
    let silence = tokio::time::timeout(Duration::from_secs(3600), subscriber.message()).await;
    assert!(silence.is_err(), "an hour without a word");
    source.offer.send_modify(|_| {});
    assert_eq!(subscriber.message().await.unwrap(), policy::heartbeat());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_takes_nothing_is_dropped_and_counted() {
    let source = Source::new(0);
    source.publish(0);
    let (sender, mut frozen) = mpsc::channel(1);
    let asked = tokio::time::Instant::now();
    feed(source.offer.subscribe(), None, sender, SETTINGS, source.ledger.open(None)).await;
    assert_eq!(asked.elapsed(), SETTINGS.subscriber_timeout);
    assert!(frozen.recv().await.is_some(), "the one message that fitted");
    assert!(frozen.recv().await.is_none());
    let book = source.ledger.read();
    assert_eq!((book.dropped, book.subscribers.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn every_byte_is_counted_and_a_delta_costs_less_than_the_policy() {
    let source = Source::new(0);
    source.publish(0);
    let mut subscriber = source.subscribe(None);
    subscriber.next().await.unwrap();
    source.publish(1);
    subscriber.next().await.unwrap();
    // The counter is written after the message has been taken; the next heartbeat comes after both.
    subscriber.message().await.unwrap();
    let book = source.ledger.read();
    let (whole, delta) = (book.versions[&PolicyVersion(0)], book.versions[&PolicyVersion(1)]);
    assert_eq!((whole.anchors, whole.deltas, delta.anchors, delta.deltas), (1, 0, 0, 1));
    assert!((4000..4200).contains(&whole.bytes) && delta.bytes < 400, "{whole:?}, {delta:?}");
    let entry = book.subscribers.values().next().unwrap();
    assert_eq!((entry.worker, entry.newest), (Some(5), Some(PolicyVersion(1))));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_beyond_the_places_is_refused_until_one_leaves() {
    let source = Source::new(0);
    let feeds = source.feeds(SETTINGS);
    let request = policy::subscription(None, None);
    let (first, _second) = (feeds.subscribe(&request).unwrap(), feeds.subscribe(&request).unwrap());
    assert_eq!(feeds.subscribe(&request).unwrap_err().code(), tonic::Code::ResourceExhausted);
    drop(first);
    // The place is free once the feed has noticed, at its next message.
    source.publish(0);
    tokio::task::yield_now().await;
    assert!(feeds.subscribe(&request).is_ok());
}
