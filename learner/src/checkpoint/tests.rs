use super::*;
use riser_core::lockstep::Lockstep;
use riser_core::snapshot::{SnapshotTensor, TensorDtype};

fn snapshot(version: u64) -> Arc<PolicySnapshot> {
    let bytes: Vec<u8> = [version as f32, 0.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    let wide = SnapshotTensor::new("wide", vec![1, 2], TensorDtype::F32, bytes.into()).unwrap();
    let half = SnapshotTensor::new("half", vec![1], TensorDtype::Bf16, vec![0x80, 0x3f].into()).unwrap();
    Arc::new(PolicySnapshot::new(PolicyVersion(version), vec![wide, half]).unwrap())
}

fn write_at(folder: &Path, version: u64) -> PathBuf {
    let shelf = [snapshot(version - 2), snapshot(version - 1), snapshot(version)];
    let pacing = Pacing::Lockstep(Lockstep { groups_per_batch: 4.try_into().unwrap(), lag: 1 });
    let consumed = GroupSet::below(4 * version);
    let state = Contents::new().with_bytes("model", "model").with_bytes("optimizer/moments", "moments");
    let (manifest, contents) = assemble(
        CatalogPlan::new(Digest::of(b"catalog")),
        pacing,
        consumed,
        snapshot(version).identity(),
        &shelf,
        state,
    );
    Folder::new(folder).write(version, manifest, contents).unwrap().path
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
    assert_eq!(std::fs::read(path.join("optimizer/moments")).unwrap(), b"moments");
}

#[test]
fn a_changed_file_is_noticed_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_at(folder.path(), 5);
    std::fs::write(path.join("model"), b"mod").unwrap();
    let message = open(&path).unwrap_err().to_string();
    assert!(message.ends_with("is damaged: `model` has 3 bytes, expected 5"), "{message}");
    std::fs::write(path.join("model"), b"model").unwrap();
    let retained = path.join(retained_name(4));
    let mut bytes = std::fs::read(&retained).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&retained, bytes).unwrap();
    let message = open(&path).unwrap_err().to_string();
    assert!(message.contains("is damaged: `retained/00000004.safetensors` has digest "), "{message}");
}

#[test]
fn a_folder_without_checkpoints_has_no_latest_and_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(latest(&folder.path().join("nowhere")).unwrap(), None);
    assert!(matches!(open(&folder.path().join("best")), Err(CheckpointError::Name { .. })));
}
