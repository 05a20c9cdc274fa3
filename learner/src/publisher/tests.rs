use super::*;
use riser_core::lockstep::Lockstep;
use riser_core::snapshot::{SnapshotTensor, TensorDtype};

fn snapshot(version: u64) -> PolicySnapshot {
    let tensor = SnapshotTensor::new("w", vec![1], TensorDtype::F32, vec![0; 4].into()).unwrap();
    PolicySnapshot::new(PolicyVersion(version), vec![tensor]).unwrap()
}

#[test]
fn the_shelf_holds_the_newest_version_and_as_many_before_it_as_the_lag() {
    let (publisher, shelf) =
        Publisher::new(Pacing::Lockstep(Lockstep { groups_per_batch: 1.try_into().unwrap(), lag: 2 }));
    for version in 0..6 {
        publisher.publish(snapshot(version));
    }
    let shelf = shelf.borrow().clone();
    let versions: Vec<u64> = shelf.iter().map(|snapshot| snapshot.version().0).collect();
    assert_eq!(versions, [3, 4, 5]);
    assert!(find(&shelf, PolicyVersion(3)).is_some() && find(&shelf, PolicyVersion(2)).is_none());
}
