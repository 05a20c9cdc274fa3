use super::*;
use object_store::{
    memory::InMemory,
    path::Path as ObjectPath,
    throttle::{ThrottleConfig, ThrottledStore},
};
use riser_core::{
    catalog::plan::CatalogPlan, digest::Digest, group_set::GroupSet, ids::PolicyVersion, lockstep::Lockstep,
    pacing::Pacing,
};
use riser_store::{Contents, DurableStore, durable::Transfer};
use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};
use tempfile::TempDir;

/// A learner's folder and the store it copies to.
struct Place {
    folder: TempDir,
    durable: DurableConfig,
}

impl Place {
    /// With versions on the disk, and versions in the store.
    async fn new(local: &[u64], stored: &[u64]) -> Self {
        Self::of("", local, stored).await
    }

    /// The same with some content.
    async fn of(content: &str, local: &[u64], stored: &[u64]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableStore::on(Arc::new(InMemory::new()), ObjectPath::from("run"), Transfer::default());
        let place = Self { folder, durable: DurableConfig { store, keep: 3 } };
        let elsewhere = tempfile::tempdir().unwrap();
        for &version in stored {
            let checkpoint = write(elsewhere.path(), content, version);
            place.durable.store.commit(&checkpoint).await.unwrap();
        }
        local.iter().for_each(|&version| drop(write(place.folder.path(), content, version)));
        place
    }

    fn damage(&self, version: u64) {
        fs::write(Folder::new(self.folder.path()).path_of(version).join("model"), b"garbage").unwrap();
    }

    async fn recover(&self) -> Result<Recovery, CheckpointError> {
        recover(self.folder.path(), Some(&self.durable)).await
    }

    fn versions(&self) -> Vec<u64> {
        Folder::new(self.folder.path()).versions().unwrap()
    }
}

fn write(folder: &Path, content: &str, version: u64) -> riser_store::Checkpoint<checkpoint::Manifest> {
    let manifest = checkpoint::Manifest {
        version: PolicyVersion(version),
        policy: Digest::of(&version.to_le_bytes()),
        catalogs: CatalogPlan::new(Digest::of(b"catalog")),
        pacing: Pacing::Lockstep(Lockstep { groups_per_batch: 4.try_into().unwrap(), lag: 0 }),
        consumed: GroupSet::below(4 * version),
        retained: BTreeMap::new(),
    };
    let contents = Contents::new().with_bytes("model", format!("{content}{version:7}"));
    Folder::new(folder).write(version, manifest, contents).unwrap()
}

/// Version to go on from, whether it was restored, and the versions that were passed over.
fn summary(recovery: &Recovery) -> (Option<u64>, bool, Vec<u64>) {
    let version = recovery.checkpoint.as_ref().map(|checkpoint| checkpoint.manifest.version.0);
    (version, recovery.restored, recovery.skipped.iter().map(|skipped| skipped.version).collect())
}

#[tokio::test]
async fn the_newest_whole_checkpoint_is_used_wherever_it_is() {
    type Case = (&'static [u64], &'static [u64], &'static [u64], (Option<u64>, bool, Vec<u64>));
    let cases: [Case; 8] = [
        (&[], &[], &[], (None, false, vec![])),
        (&[2, 4], &[2], &[], (Some(4), false, vec![])),
        (&[2, 4], &[2, 4], &[], (Some(4), false, vec![])),
        // The folder is gone, or was left behind on another machine.
        (&[], &[2, 4], &[], (Some(4), true, vec![])),
        (&[2], &[2, 4], &[], (Some(4), true, vec![])),
        // Damaged on the disk and whole in the store: nothing is lost.
        (&[2, 4], &[2, 4], &[4], (Some(4), true, vec![4])),
        (&[2, 4, 6], &[2], &[6], (Some(4), false, vec![6])),
        (&[2, 4], &[2], &[2, 4], (Some(2), true, vec![4])),
    ];
    for (local, stored, damaged, expected) in cases {
        let place = Place::new(local, stored).await;
        damaged.iter().for_each(|&version| place.damage(version));
        let recovery = place.recover().await.unwrap();
        assert_eq!(summary(&recovery), expected, "{local:?} on the disk, {stored:?} stored, {damaged:?} damaged");
        assert_eq!(place.versions().last().copied(), expected.0, "{local:?} on the disk, {stored:?} stored");
    }
}

#[tokio::test]
async fn recovery_fails_when_nothing_is_whole_on_the_disk_and_the_store_has_nothing() {
    let place = Place::new(&[2, 4], &[]).await;
    [2, 4].iter().for_each(|&version| place.damage(version));
    for durable in [None, Some(&place.durable)] {
        let error = recover(place.folder.path(), durable).await.unwrap_err();
        assert!(matches!(error, CheckpointError::Folder(FolderError::NoneWhole { .. })), "{error}");
        assert_eq!(place.versions(), [2, 4], "nothing was moved");
    }
}

#[tokio::test]
async fn of_two_contents_of_the_newest_version_the_one_in_the_store_counts() {
    let (here, there) = (Place::new(&[2, 4], &[2]).await, Place::of("other", &[2, 4], &[4]).await);
    let recovery = recover(here.folder.path(), Some(&there.durable)).await.unwrap();
    assert_eq!(summary(&recovery), (Some(4), true, vec![4]));
    assert_eq!(recovery.skipped[0].reason, "the store has this version with other content");
    let folder = recovery.checkpoint.unwrap().folder;
    assert_eq!(fs::read(folder.join("model")).unwrap(), b"other      4");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_done_without_only_if_the_disk_has_a_checkpoint() {
    let mut place = Place::new(&[2], &[]).await;
    let day = Duration::from_secs(86_400);
    let slow = ThrottleConfig { wait_list_with_delimiter_per_call: day, ..ThrottleConfig::default() };
    let silent = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    place.durable.store = DurableStore::on(silent, ObjectPath::from("run"), Transfer::default());
    assert_eq!(summary(&place.recover().await.unwrap()), (Some(2), false, vec![]));
    place.folder = tempfile::tempdir().unwrap();
    let error = place.recover().await.unwrap_err().to_string();
    assert_eq!(error, "object store, run: no answer in 360 seconds");
}
