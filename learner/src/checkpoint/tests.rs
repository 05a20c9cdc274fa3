use super::*;
use riser_core::lockstep::Lockstep;
use riser_core::snapshot::{SnapshotTensor, TensorDtype};

fn snapshot(version: u64) -> Arc<PolicySnapshot> {
    let bytes: Vec<u8> = [version as f32, 0.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    let wide = SnapshotTensor::new("wide", vec![1, 2], TensorDtype::F32, bytes.into()).unwrap();
    let half = SnapshotTensor::new("half", vec![1], TensorDtype::Bf16, vec![0x80, 0x3f].into()).unwrap();
    Arc::new(PolicySnapshot::new(PolicyVersion(version), vec![wide, half]).unwrap())
}

fn lockstep(lag: u32) -> Pacing {
    Pacing::Lockstep(Lockstep { groups_per_batch: 4.try_into().unwrap(), lag })
}

fn write_at(folder: &Path, version: u64) -> PathBuf {
    let shelf = [snapshot(version - 2), snapshot(version - 1), snapshot(version)];
    let save = |folder: &Path| {
        fs::create_dir(folder.join("optimizer"))?;
        fs::write(folder.join("optimizer/moments"), b"moments")?;
        Ok(fs::write(folder.join("model"), b"model")?)
    };
    write(folder, Digest::of(b"catalog"), lockstep(1), GroupSet::below(4 * version), &shelf, save).unwrap()
}

#[test]
fn a_checkpoint_comes_back_with_the_policies_that_open_batches_need_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_at(folder.path(), 5);
    assert_eq!(latest(folder.path()).unwrap(), Some(path.clone()));
    let checkpoint = open(&path).unwrap();
    assert_eq!(checkpoint.retained, [(*snapshot(4)).clone()]);
    assert_eq!(checkpoint.manifest.policy, snapshot(5).digest());
    assert_eq!(checkpoint.manifest.version, PolicyVersion(5));
    assert_eq!(checkpoint.manifest.consumed, GroupSet::below(20));
    let files: Vec<_> = checkpoint.manifest.file_bytes.iter().map(|(name, &size)| (name.as_str(), size)).collect();
    assert_eq!(files[0..2], [("model", 5), ("optimizer/moments", 7)]);
}

#[test]
fn a_save_that_fails_leaves_no_checkpoint_and_the_next_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |folder: &Path| {
        fs::write(folder.join("model"), b"half")?;
        Err("disk full".into())
    };
    let failed = write(folder.path(), Digest::of(b"catalog"), lockstep(0), GroupSet::below(20), &[snapshot(5)], fails);
    assert!(matches!(failed, Err(CheckpointError::Trainer { source, .. }) if source.to_string() == "disk full"));
    assert_eq!(latest(folder.path()).unwrap(), None);
    write_at(folder.path(), 5);
}

#[test]
fn a_cut_missing_or_changed_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_at(folder.path(), 5);
    fs::write(path.join("model"), b"mod").unwrap();
    let message = open(&path).unwrap_err().to_string();
    assert!(message.ends_with("is damaged: `model` has 3 bytes, expected 5"), "{message}");
    fs::remove_file(path.join("model")).unwrap();
    let message = open(&path).unwrap_err().to_string();
    assert!(message.ends_with("is damaged: `model` has no bytes, expected 5"), "{message}");
    fs::write(path.join("model"), b"model").unwrap();

    let retained = retained_path(&path, 4);
    let mut bytes = fs::read(&retained).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&retained, bytes).unwrap();
    assert!(matches!(open(&path), Err(CheckpointError::Retained { version: 4, .. })));
}

#[test]
fn the_newest_checkpoint_is_found_by_number_and_never_pruned() {
    let folder = tempfile::tempdir().unwrap();
    for version in [9, 10, 99, 100] {
        write_at(folder.path(), version);
    }
    fs::create_dir(folder.path().join(".step-00000200.partial")).unwrap();
    fs::write(folder.path().join("notes"), b"").unwrap();
    prune(folder.path(), 2).unwrap();
    let left: Vec<_> = list(folder.path()).unwrap();
    assert_eq!(left, [folder.path().join("step-00000099"), folder.path().join("step-00000100")]);
    prune(folder.path(), 0).unwrap();
    assert_eq!(latest(folder.path()).unwrap(), Some(folder.path().join("step-00000100")));
    assert_eq!(latest(&folder.path().join("nowhere")).unwrap(), None);
}
