//! The durable plane over every kind of store that runs without a network: memory, a folder, and a server that speaks S3.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod chunks;
mod stores;

use riser_store::{
    Checkpoint, CheckpointFolder, Contents, DurableStore, FolderError, Location, StoreError,
    durable::{Committed, Transfer},
};
use std::{fs, path::Path, time::Duration};
use stores::{Kind, Server};

type Folder = CheckpointFolder<String>;

fn folder(place: &Path) -> Folder {
    CheckpointFolder::new(place.join("checkpoints"))
}

/// A checkpoint with a file of `large` bytes, the same for the same arguments.
fn write(folder: &mut Folder, version: u64, content: &str, large: usize) -> Checkpoint<String> {
    let pattern: Vec<u8> = (0..large).map(|at| (at / 1000 % 251) as u8).collect();
    let contents = Contents::new()
        .with_bytes("config.json", content)
        .with_bytes("model.safetensors", pattern)
        .with_bytes("retained/00000003.safetensors", vec![]);
    folder.write(version, format!("about {content}"), contents).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_comes_back_bit_for_bit_from_every_store() {
    for kind in Kind::ALL {
        let opened = kind.open().await;
        let store = &opened.store;
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let large = 2 * Kind::TRANSFER.part_bytes as usize + 7;
        let written = write(&mut folder(here.path()), 40, "run", large);
        assert_eq!(store.versions().await.unwrap(), [] as [u64; 0], "{kind:?}");
        assert_eq!(store.commit(&written).await.unwrap(), Committed::Now, "{kind:?}");
        assert_eq!(store.commit(&written).await.unwrap(), Committed::Before, "{kind:?}");
        assert_eq!(store.versions().await.unwrap(), [40], "{kind:?}");

        let restored = store.fetch_newest(&folder(there.path()), None).await.unwrap().newest.unwrap();
        assert_eq!((&restored.manifest, restored.digest), (&written.manifest, written.digest), "{kind:?}");
        for name in written.manifest.files.keys() {
            let (one, other) = (fs::read(written.path.join(name)), fs::read(restored.path.join(name)));
            assert!(one.unwrap() == other.unwrap(), "{kind:?}: {name}");
        }
        assert_eq!(folder(there.path()).recover().unwrap().newest, Some(restored), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_goes_to_s3_in_parts() {
    let server = Server::start().await;
    let store = DurableStore::connect(&server.location()).unwrap();
    let here = tempfile::tempdir().unwrap();
    let large = 2 * Kind::TRANSFER.part_bytes as usize + 7;
    store.commit(&write(&mut folder(here.path()), 1, "run", large)).await.unwrap();
    let parts = server.requests().into_iter().filter(|request| request.contains("partNumber="));
    assert_eq!(parts.count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_of_one_version_one_commits_and_the_other_hears_of_it() {
    for kind in Kind::ALL {
        let opened = kind.open().await;
        let store = &opened.store;
        let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let one = write(&mut folder(places[0].path()), 40, "one", 10);
        let two = write(&mut folder(places[1].path()), 40, "two", 10);
        let results = match kind {
            // The test server looks before it writes and may be overtaken in between; real S3 may not.
            Kind::S3 => (store.commit(&one).await, store.commit(&two).await),
            _ => tokio::join!(store.commit(&one), store.commit(&two)),
        };
        let (winner, lost) = match results {
            (Ok(Committed::Now), Err(lost)) => ("about one", lost),
            (Err(lost), Ok(Committed::Now)) => ("about two", lost),
            both => panic!("{kind:?}: {both:?}"),
        };
        assert!(lost.is_final() && matches!(lost, StoreError::Conflict { version: 40, .. }), "{kind:?}: {lost}");
        let place = tempfile::tempdir().unwrap();
        let fetched = store.fetch_newest(&folder(place.path()), None).await.unwrap();
        assert_eq!(fetched.newest.unwrap().manifest.about, winner, "{kind:?}");
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_in_the_store_is_passed_over_and_when_none_is_whole_that_is_said() {
    let opened = Kind::Folder.open().await;
    let (store, root) = (&opened.store, opened.folder.as_ref().unwrap());
    let here = tempfile::tempdir().unwrap();
    let mut local = folder(here.path());
    for version in [1, 2, 3] {
        store.commit(&write(&mut local, version, "run", 10)).await.unwrap();
    }
    let manifest = root.path().join("runs/step-00000003.json");
    let cut = fs::read(&manifest).unwrap();
    fs::write(&manifest, &cut[..cut.len() - 5]).unwrap();
    let digest = local.open(2).unwrap().digest;
    fs::write(root.path().join(format!("runs/step-00000002/{digest}/config.json")), "ruN").unwrap();

    let there = tempfile::tempdir().unwrap();
    let fetched = store.fetch_newest(&folder(there.path()), None).await.unwrap();
    assert_eq!(fetched.newest.unwrap().manifest.version, 1);
    let versions: Vec<_> = fetched.skipped.iter().map(|skipped| skipped.version).collect();
    assert_eq!(versions, [3, 2]);
    assert!(fetched.skipped[1].reason.starts_with("`config.json` has digest "), "{:?}", fetched.skipped);

    let digest = local.open(1).unwrap().digest;
    fs::remove_file(root.path().join(format!("runs/step-00000001/{digest}/model.safetensors"))).unwrap();
    let there = tempfile::tempdir().unwrap();
    let error = store.fetch_newest(&folder(there.path()), None).await.unwrap_err();
    assert!(matches!(&error, StoreError::NoneWhole { damaged, .. } if damaged.len() == 3), "{error}");
    assert_eq!(folder(there.path()).versions().unwrap(), [] as [u64; 0]);
}

#[tokio::test]
async fn a_local_file_that_has_changed_is_not_committed() {
    let opened = Kind::Memory.open().await;
    let store = &opened.store;
    let here = tempfile::tempdir().unwrap();
    let written = write(&mut folder(here.path()), 1, "run", 10);
    fs::write(written.path.join("config.json"), "ruN").unwrap();
    let error = store.commit(&written).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(store.versions().await.unwrap(), [] as [u64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_keeps_the_newest_and_removes_what_was_never_committed() {
    for kind in Kind::ALL {
        let opened = kind.open().await;
        let store = &opened.store;
        let here = tempfile::tempdir().unwrap();
        let mut local = folder(here.path());
        for version in [1, 2, 3, 4] {
            store.commit(&write(&mut local, version, "run", 10)).await.unwrap();
        }
        // Its manifest loses against the committed one, so its files belong to nobody.
        let other = tempfile::tempdir().unwrap();
        store.commit(&write(&mut folder(other.path()), 2, "other", 10)).await.unwrap_err();
        store.prune(2).await.unwrap();
        assert_eq!(store.versions().await.unwrap(), [3, 4], "{kind:?}");
        store.prune(2).await.unwrap();
        let there = tempfile::tempdir().unwrap();
        assert_eq!(store.fetch_newest(&folder(there.path()), Some(4)).await.unwrap().newest, None, "{kind:?}");
        let newest = store.fetch_newest(&folder(there.path()), Some(2)).await.unwrap().newest;
        assert_eq!(newest.unwrap().manifest.version, 4, "{kind:?}");
    }
}

#[tokio::test]
async fn runs_below_one_url_do_not_see_each_other() {
    let opened = Kind::Memory.open().await;
    let store = &opened.store;
    let here = tempfile::tempdir().unwrap();
    let written = write(&mut folder(here.path()), 1, "run", 10);
    store.within("one").commit(&written).await.unwrap();
    assert_eq!(store.within("one").versions().await.unwrap(), [1]);
    assert_eq!(store.within("two").versions().await.unwrap(), [] as [u64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_fail_are_made_again() {
    let server = Server::start().await;
    server.fail_every(3);
    let store = DurableStore::connect(&server.location()).unwrap();
    let here = tempfile::tempdir().unwrap();
    let large = 2 * Kind::TRANSFER.part_bytes as usize;
    let written = write(&mut folder(here.path()), 1, "run", large);
    assert_eq!(store.commit(&written).await.unwrap(), Committed::Now);
    let there = tempfile::tempdir().unwrap();
    let fetched = store.fetch_newest(&folder(there.path()), None).await.unwrap();
    assert_eq!(fetched.newest.unwrap().digest, written.digest);
    assert!(server.failures() > 3, "{} failures", server.failures());
}

/// The answer to the put of the manifest is lost, so the client does not know that it has committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_recognised_as_ours() {
    let server = Server::start().await;
    server.lose_answers_to("step-00000001.json");
    let store = DurableStore::connect(&server.location()).unwrap();
    let here = tempfile::tempdir().unwrap();
    store.commit(&write(&mut folder(here.path()), 1, "run", 10)).await.unwrap();
    assert_eq!(store.versions().await.unwrap(), [1]);
    assert!(server.failures() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_or_silent_is_given_up_with_the_reason() {
    let server = Server::start().await;
    let mut location = server.location();
    // Long enough for an answer on a machine that is busy: what is told is the last failure, if there was one in time.
    location.transfer.patience = Duration::from_secs(3);
    server.fail_every(1);
    let store = DurableStore::connect(&location).unwrap();
    let error = store.versions().await.unwrap_err();
    assert!(matches!(error, StoreError::Object { .. }) && !error.is_final(), "{error}");

    location.transfer.patience = Duration::from_millis(300);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    location.endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    let store = DurableStore::connect(&location).unwrap();
    let error = store.versions().await.unwrap_err();
    assert!(matches!(error, StoreError::Object { .. } | StoreError::Deadline { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_refused_at_once() {
    let server = Server::start().await;
    let mut location = server.location();
    location.options.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    location.options.push(("AWS_SECRET_ACCESS_KEY".to_owned(), "guess".to_owned()));
    let error = DurableStore::connect(&location).unwrap().versions().await.unwrap_err();
    assert!(error.to_string().contains("SignatureDoesNotMatch"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_url_that_is_none_and_a_store_that_is_not_built_in_are_named() {
    let connect = |url: &str| {
        let location = Location { url: url.to_owned(), transfer: Transfer::default(), ..Location::default() };
        DurableStore::connect(&location).unwrap_err().to_string()
    };
    assert_eq!(connect("runs/store"), "`runs/store` is not a URL: relative URL without a base");
    assert_eq!(connect("ftp://host/runs"), "`ftp://host/runs`: this build has no stores of kind `ftp`");
}

/// A run that went on from an older state and computed something else must not bury what was committed.
#[tokio::test]
async fn a_restored_version_never_replaces_another_whole_one_of_the_local_disk() {
    let opened = Kind::Memory.open().await;
    let store = &opened.store;
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    store.commit(&write(&mut folder(places[0].path()), 7, "one", 10)).await.unwrap();
    let mut local = folder(places[1].path());
    write(&mut local, 7, "two", 10);
    let error = store.fetch_newest(&local, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Folder(FolderError::Diverged { .. })), "{error}");
}
