use super::*;
use crate::publisher::Publisher;
use riser_core::{
    delta::{apply, offer::Delivery},
    ids::PolicyVersion,
    lockstep::Lockstep,
    pacing::Pacing,
    snapshot::{SnapshotTensor, TensorDtype},
};

/// A policy of 1,000 elements of which the first is the version.
fn snapshot(version: u64, dtype: TensorDtype) -> PolicySnapshot {
    let mut values = vec![0.5; 1000];
    values[0] = version as f32;
    let bytes: Vec<u8> = values.iter().flat_map(|value: &f32| value.to_le_bytes()).collect();
    let tensor = SnapshotTensor::new("w", vec![1000], TensorDtype::F32, bytes.into()).unwrap();
    PolicySnapshot::new(PolicyVersion(version), vec![tensor]).unwrap().served_as(dtype).unwrap()
}

fn start(lag: u32, anchor_every: u64) -> (Publisher, Distribution, watch::Receiver<PolicyOffer>) {
    let pacing = Pacing::Lockstep(Lockstep { groups_per_batch: 1.try_into().unwrap(), lag });
    let (publisher, shelf) = Publisher::new(pacing);
    let settings = DistributionSettings { anchor_every, packing: Packing::Never };
    let (distribution, offer) = Distribution::new(shelf, settings);
    (publisher, distribution, offer)
}

/// Waits until `version` is on offer.
async fn offered(offer: &mut watch::Receiver<PolicyOffer>, version: u64) -> PolicyOffer {
    let here = |offer: &PolicyOffer| offer.newest().is_some_and(|newest| newest.version.0 == version);
    offer.wait_for(here).await.unwrap().clone()
}

/// What someone who holds `held` is sent for the newest version: true for a delta.
fn comes_as_delta(offer: &PolicyOffer, held: &PolicySnapshot) -> bool {
    match offer.next_for(Some(held.identity())).unwrap() {
        Delivery::Delta(delta) => {
            let next = apply(held, &delta).unwrap();
            assert_eq!(Some(next.identity()), offer.newest());
            true
        }
        Delivery::Anchor(policy) => {
            assert_eq!(Some(policy.identity()), offer.newest());
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_is_offered_with_the_delta_from_the_one_before() {
    let (publisher, distribution, mut offer) = start(0, 0);
    let running = tokio::spawn(distribution.run());
    for version in 0..4 {
        let policy = snapshot(version, TensorDtype::Bf16);
        publisher.publish(policy);
        let offer = offered(&mut offer, version).await;
        assert_eq!(offer.policies().len(), 1);
        if version > 0 {
            assert!(comes_as_delta(&offer, &snapshot(version - 1, TensorDtype::Bf16)));
        }
    }
    drop(publisher);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_so_many_versions_the_policy_goes_whole() {
    let (publisher, distribution, mut offer) = start(0, 3);
    tokio::spawn(distribution.run());
    let mut whole = vec![];
    publisher.publish(snapshot(0, TensorDtype::F32));
    offered(&mut offer, 0).await;
    for version in 1..8 {
        publisher.publish(snapshot(version, TensorDtype::F32));
        let offer = offered(&mut offer, version).await;
        if !comes_as_delta(&offer, &snapshot(version - 1, TensorDtype::F32)) {
            whole.push(version);
        }
    }
    assert_eq!(whole, [3, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_number_format_is_crossed_whole() {
    let (publisher, distribution, mut offer) = start(1, 0);
    tokio::spawn(distribution.run());
    publisher.publish(snapshot(0, TensorDtype::F32));
    publisher.publish(snapshot(1, TensorDtype::Bf16));
    let offer = offered(&mut offer, 1).await;
    assert!(!comes_as_delta(&offer, &snapshot(0, TensorDtype::F32)));
}

/// Publishing is a plain function: it returns whether or not anyone encodes, and what was skipped is not queued.
#[tokio::test(start_paused = true)]
async fn versions_that_come_faster_than_they_are_encoded_are_skipped() {
    let (publisher, distribution, mut offer) = start(1, 0);
    for version in 0..100 {
        publisher.publish(snapshot(version, TensorDtype::F32));
    }
    assert_eq!(publisher.shelf().len(), 2);
    tokio::spawn(distribution.run());
    let offer = offered(&mut offer, 99).await;
    let versions: Vec<u64> = offer.policies().iter().map(|policy| policy.version().0).collect();
    assert_eq!(versions, [98, 99]);
    assert!(comes_as_delta(&offer, &snapshot(98, TensorDtype::F32)));
    drop(publisher);
}

#[tokio::test(start_paused = true)]
async fn what_was_published_before_the_end_is_still_offered() {
    let (publisher, distribution, offer) = start(0, 0);
    publisher.publish(snapshot(0, TensorDtype::F32));
    publisher.publish(snapshot(1, TensorDtype::F32));
    drop(publisher);
    distribution.run().await;
    assert_eq!(offer.borrow().newest(), Some(snapshot(1, TensorDtype::F32).identity()));
}
