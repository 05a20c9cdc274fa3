use super::*;
use std::{fs, io};

fn folder(path: &Path) -> CheckpointFolder<u64> {
    CheckpointFolder::new(path.join("checkpoints"))
}

fn write(folder: &mut CheckpointFolder<u64>, version: u64) -> Checkpoint<u64> {
    let contents = Contents::new().with_bytes("model", "weights").with_bytes("deep/er/file", version.to_string());
    folder.write(version, 10 * version, contents).unwrap()
}

fn names(folder: &CheckpointFolder<u64>) -> Vec<String> {
    let mut names = Disk.list(folder.path()).unwrap();
    names.sort();
    names
}

#[test]
fn a_checkpoint_comes_back_with_its_files_and_what_its_owner_says() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    assert!(folder.recover().unwrap().newest.is_none());
    let written = write(&mut folder, 5);
    let recovered = folder.recover().unwrap();
    assert_eq!((recovered.newest.as_ref(), recovered.skipped.len()), (Some(&written), 0));
    assert_eq!((written.manifest.about, written.manifest.files["model"].bytes), (50, 7));
    assert_eq!(fs::read(written.path.join("deep/er/file")).unwrap(), b"5");
    assert_eq!(folder.open(5).unwrap(), written);
    assert_eq!(names(&folder), ["step-00000005"]);
}

#[test]
fn damage_is_named_and_damaged_checkpoints_are_set_aside_under_names_of_their_own() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    for round in 1..=2 {
        for version in [5, 6, 7] {
            write(&mut folder, version);
        }
        fs::write(folder.path_of(7).join("model"), b"weight").unwrap();
        fs::remove_file(folder.path_of(6).join("deep/er/file")).unwrap();
        let recovered = folder.recover().unwrap();
        assert_eq!(recovered.newest.unwrap().manifest.version, 5);
        let reasons: Vec<_> = recovered.skipped.iter().map(|skipped| (skipped.version, &*skipped.reason)).collect();
        let expected = [(7, "`model` has 6 bytes, expected 7"), (6, "`deep/er/file` is missing")];
        assert_eq!(reasons, expected, "round {round}");
        assert!(recovered.skipped.iter().all(|skipped| Path::new(&skipped.place).exists()));
    }
    let expected = ["damaged-step-00000006", "damaged-step-00000006-2", "damaged-step-00000007"];
    assert_eq!(names(&folder)[..3], expected);
}

#[test]
fn of_the_damaged_checkpoints_from_before_the_newest_three_stay() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    write(&mut folder, 5);
    let before =
        ["step-00000004", "step-00000009", "step-00000010", "step-00000010-2", "step-00000010-12", "step-new", "notes"];
    for name in before {
        fs::create_dir(folder.path().join(format!("{DAMAGED}{name}"))).unwrap();
    }
    for version in [6, 7, 8, 9] {
        write(&mut folder, version);
        fs::remove_file(folder.path_of(version).join("model")).unwrap();
    }
    let recovered = folder.recover().unwrap();
    assert!(recovered.skipped.len() == 4 && recovered.skipped.iter().all(|skipped| Path::new(&skipped.place).exists()));
    let kept = |folder: &CheckpointFolder<u64>| {
        names(folder).into_iter().filter_map(|name| Some(name.strip_prefix(DAMAGED)?.to_owned())).collect::<Vec<_>>()
    };
    // Names that we do not give are not ours to remove.
    let mut expected = vec!["notes"];
    expected.extend(["step-00000006", "step-00000007", "step-00000008", "step-00000009"]);
    expected.extend(["step-00000010", "step-00000010-12", "step-00000010-2", "step-new"]);
    assert_eq!(kept(&folder), expected);
    assert!(folder.recover().unwrap().skipped.is_empty());
    assert_eq!(kept(&folder), ["notes", "step-00000010", "step-00000010-12", "step-00000010-2", "step-new"]);
}

#[test]
fn recovery_fails_and_moves_nothing_when_no_checkpoint_is_whole() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    for version in [5, 6] {
        write(&mut folder, version);
        fs::write(folder.path_of(version).join("model"), b"WEIGHTS").unwrap();
    }
    let Err(FolderError::NoneWhole { damaged, .. }) = folder.recover() else { panic!("nothing is whole") };
    assert_eq!(damaged.iter().map(|skipped| skipped.version).collect::<Vec<_>>(), [6, 5]);
    assert!(damaged[0].reason.starts_with("`model` has digest "), "{}", damaged[0].reason);
    assert_eq!(names(&folder), ["step-00000005", "step-00000006"]);
}

#[test]
fn only_whole_checkpoints_count_when_old_ones_are_removed() {
    let place = tempfile::tempdir().unwrap();
    let mut writing = folder(place.path());
    for version in [1, 2, 3, 4, 5] {
        write(&mut writing, version);
    }
    fs::write(writing.path_of(4).join("model"), b"WEIGHTS").unwrap();
    // Another value knows nothing of what was written, as after a restart.
    let mut folder = folder(place.path());
    let skipped = folder.prune(2, &[1]).unwrap();
    assert_eq!(skipped.iter().map(|skipped| skipped.version).collect::<Vec<_>>(), [4]);
    assert_eq!(names(&folder), ["damaged-step-00000004", "step-00000001", "step-00000003", "step-00000005"]);
    folder.prune(0, &[]).unwrap();
    assert_eq!(folder.versions().unwrap(), [5]);
}

#[test]
fn what_is_committed_is_never_replaced_and_the_same_content_is_no_conflict() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    let first = write(&mut folder, 5);
    assert_eq!(write(&mut folder, 5), first);
    let error = folder.write(5, 50, Contents::new().with_bytes("model", "other")).unwrap_err();
    assert!(matches!(error, FolderError::Diverged { committed, .. } if committed == first.digest));
    assert!(error.is_final());
    assert_eq!((folder.open(5).unwrap(), names(&folder)), (first, vec!["step-00000005".to_owned()]));
}

#[test]
fn a_write_that_fails_leaves_nothing_behind_and_the_next_one_succeeds() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    let contents = Contents::new()
        .with_bytes("model", "weights")
        .with("optimizer", || Err::<Vec<u8>, _>(io::Error::other("out of memory")));
    let message = folder.write(5, 50, contents).unwrap_err().to_string();
    assert!(message.ends_with("step-00000005/optimizer: out of memory"), "{message}");
    assert!(names(&folder).is_empty());
    let escape = folder.write(5, 50, Contents::new().with_bytes("../model", "weights")).unwrap_err();
    assert!(matches!(escape, FolderError::Name { name, .. } if name == "../model"));
    write(&mut folder, 5);
}

/// `/dev/full` is a file that has no room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let error = Disk.write(Path::new("/dev/full"), b"weights").map_err(FolderError::io("model")).unwrap_err();
    assert!(matches!(error, FolderError::Full { .. }));
    assert!(error.to_string().starts_with("no space is left to write model: "), "{error}");
}

#[test]
fn names_that_are_not_checkpoints_are_not_looked_at() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = folder(place.path());
    for version in [9, 10, 99, 100] {
        write(&mut folder, version);
    }
    for name in [".step-00000200.partial", ".step-00000001.removed", "step-+7", "step-new"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("notes"), b"").unwrap();
    assert_eq!(folder.versions().unwrap(), [9, 10, 99, 100]);
    assert_eq!(folder.recover().unwrap().newest.unwrap().manifest.version, 100);
    let left = names(&folder);
    assert!(left.iter().all(|name| !name.starts_with('.')) && left.contains(&"notes".to_owned()), "{left:?}");
}
