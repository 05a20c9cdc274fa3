//! Files that a user or another program has written, or that a crash or a disk has changed.

use super::{Decoder, Layout, MANY, wire};
use riser_core::{
    config::{RunConfig, Sources},
    data_folder::Manifest as DataManifest,
    delta::{Packing, PolicyDelta, apply, encode},
    digest::Digest,
    group_set::GroupSet,
    ids::PolicyVersion,
    prefix_tree::PrefixTree,
    random::Seed,
};
use riser_learner::{batch_book::BatchBook, checkpoint::Manifest as LearnerManifest, snapshot_file};
use riser_policy::{checkpoint, parameters::Parameters, shape::Shape};
use riser_store::{CheckpointFolder, Contents, FileSystem, simulated_disk::SimulatedDisk};
use std::{fs, path::Path, sync::Arc};

pub(super) const PREFIX_TREE: Decoder = Decoder {
    name: "prefix_tree",
    layout: Layout::Sealed {
        seal: |bytes| {
            if let Some((header, arrays)) = bytes.split_at_mut_checked(56) {
                header[24..].copy_from_slice(Digest::of(arrays).as_bytes());
            }
        },
    },
    samples: || vec![wire::tree().to_bytes()],
    inputs: MANY,
    decode: |bytes| {
        let Ok(tree) = PrefixTree::from_bytes(bytes, "fuzzer") else { return false };
        wire::walk(&tree);
        assert_eq!(tree.to_bytes(), bytes);
        true
    },
};

pub(super) const DELTA: Decoder = Decoder {
    name: "delta",
    layout: Layout::Sealed {
        seal: |bytes| {
            if let Some(body) = bytes.len().checked_sub(32) {
                let seal = Digest::of(&bytes[..body]);
                bytes[body..].copy_from_slice(seal.as_bytes());
            }
        },
    },
    samples: || {
        let (base, next) = (wire::snapshot(0), wire::snapshot(1));
        [Packing::default(), Packing::Never]
            .map(|packing| encode(&base, &next, packing).unwrap().encoded().to_vec())
            .into()
    },
    inputs: MANY,
    decode: |bytes| {
        let Ok(delta) = PolicyDelta::decode(bytes.to_vec().into()) else { return false };
        assert_eq!(delta.encoded(), bytes);
        let Ok(next) = apply(&wire::snapshot(0), &delta) else { return true };
        assert_eq!(next.identity(), delta.next());
        true
    },
};

pub(super) const CHECKPOINT_MANIFEST: Decoder = Decoder {
    name: "checkpoint_manifest",
    layout: Layout::Text,
    samples: || {
        let disk = Arc::new(SimulatedDisk::empty());
        let contents = Contents::new().with_bytes("model", "weights");
        let written = CheckpointFolder::on(disk.clone(), CHECKPOINTS).write(4, "about".to_owned(), contents).unwrap();
        vec![disk.read(&written.path.join(riser_store::manifest::NAME)).unwrap()]
    },
    inputs: MANY,
    decode: |bytes| {
        let disk = Arc::new(SimulatedDisk::empty());
        let folder = Path::new(CHECKPOINTS).join("step-00000004");
        disk.create_folder(&folder).unwrap();
        disk.write(&folder.join("model"), b"weights").unwrap();
        disk.write(&folder.join(riser_store::manifest::NAME), bytes).unwrap();
        CheckpointFolder::<String>::on(disk, CHECKPOINTS).open(4).is_ok()
    },
};

const CHECKPOINTS: &str = "/run/checkpoints";

pub(super) const LEARNER_MANIFEST: Decoder = Decoder {
    name: "learner_manifest",
    layout: Layout::Text,
    samples: || {
        let manifest = |pacing, consumed: GroupSet| LearnerManifest {
            version: PolicyVersion(2),
            policy: Digest::of(b"policy"),
            catalog: Digest::of(b"catalog"),
            pacing,
            consumed,
            retained: [(1, Digest::of(b"older"))].into(),
        };
        let [lockstep, bounded] = wire::pacings();
        let manifests = [manifest(lockstep, GroupSet::below(8)), manifest(bounded, GroupSet::new(6, [7, 9]))];
        manifests.map(|manifest| serde_json::to_vec(&manifest).unwrap()).into()
    },
    inputs: MANY,
    decode: |bytes| {
        let Ok(manifest) = serde_json::from_slice::<LearnerManifest>(bytes) else { return false };
        let written = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(serde_json::from_slice::<LearnerManifest>(&written).unwrap(), manifest);
        let LearnerManifest { version, pacing, consumed, .. } = manifest;
        assert_eq!(GroupSet::new(consumed.first_gap(), consumed.behind_gap()), consumed);
        // What a learner does with it first.
        let _ = consumed.len();
        let _ = pacing.resumed_with(version);
        let mut book = BatchBook::new(pacing, u64::MAX, version, consumed);
        book.take_batch();
        true
    },
};

pub(super) const POLICY_FILE: Decoder = Decoder {
    name: "policy_file",
    layout: Layout::Plain,
    samples: || vec![snapshot_file::bytes(&wire::snapshot(1), Path::new("policy")).unwrap()],
    inputs: MANY,
    decode: |bytes| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        fs::write(&path, bytes).unwrap();
        let Ok(snapshot) = snapshot_file::read(PolicyVersion(1), &path) else { return false };
        fs::write(&path, snapshot_file::bytes(&snapshot, &path).unwrap()).unwrap();
        assert_eq!(snapshot_file::read(PolicyVersion(1), &path).unwrap().identity(), snapshot.identity());
        true
    },
};

pub(super) const CONFIGURATION: Decoder = Decoder {
    name: "configuration",
    layout: Layout::Text,
    samples: || {
        vec![RunConfig::default().to_toml().into_bytes(), include_bytes!("../../../riser/src/quickstart.toml").into()]
    },
    inputs: MANY,
    decode: |bytes| {
        let resolve = |text: String| RunConfig::resolve(&Sources { built_in: Some(text), ..Sources::default() }, 2);
        let Ok(config) = String::from_utf8(bytes.to_vec()).map(resolve) else { return false };
        let Ok(config) = config else { return false };
        assert_eq!(resolve(config.to_toml()).unwrap(), config);
        true
    },
};

pub(super) const MODEL_CONFIGURATION: Decoder = Decoder {
    name: "model_configuration",
    layout: Layout::Text,
    samples: || vec![shape().to_json().to_string().into_bytes()],
    inputs: MANY,
    decode: |bytes| {
        let Ok(json) = serde_json::from_slice(bytes) else { return false };
        let Ok(shape) = Shape::from_json(&json) else { return false };
        assert_eq!(Shape::from_json(&shape.to_json()).unwrap(), shape);
        // A worker is told the shape and sent the parameters; the one must not make it set aside memory without the other.
        assert!(Parameters::from_snapshot(&shape, &wire::snapshot(0), &checkpoint::cpu()).is_err());
        true
    },
};

pub(super) const MODEL_WEIGHTS: Decoder = Decoder {
    name: "model_weights",
    layout: Layout::Plain,
    samples: || {
        let parameters = Parameters::initialise(&shape(), Seed(1), &checkpoint::cpu()).unwrap();
        let [_, (_, weights)] = checkpoint::files(&parameters).unwrap();
        vec![weights]
    },
    inputs: MANY,
    decode: |bytes| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), shape().to_json().to_string()).unwrap();
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        let Ok(parameters) = checkpoint::load(folder.path(), &checkpoint::cpu()) else { return false };
        // Not `save`, which waits for the disk.
        for (name, content) in checkpoint::files(&parameters).unwrap() {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let again = checkpoint::load(folder.path(), &checkpoint::cpu()).unwrap();
        assert_eq!(again.digest().unwrap(), parameters.digest().unwrap());
        true
    },
};

pub(super) const DATA_MANIFEST: Decoder = Decoder {
    name: "data_manifest",
    layout: Layout::Text,
    samples: || vec![DATA.as_bytes().to_vec()],
    inputs: MANY,
    decode: |bytes| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("manifest.json"), bytes).unwrap();
        let Ok(manifest) = DataManifest::read(folder.path()) else { return false };
        fs::write(folder.path().join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert_eq!(DataManifest::read(folder.path()).unwrap(), manifest);
        true
    },
};

const DATA: &str = r#"{"format": 1,
  "digest": "0000000000000000000000000000000000000000000000000000000000000000",
  "counts": {"items": 12, "leaves": 9, "nodes": 22, "vocab_size": 40, "train": 5, "valid": 2, "test": 2, "rl_train": 4,
    "rl_valid": 1},
  "files": {"items.parquet": {"bytes": 9, "digest": "0000000000000000000000000000000000000000000000000000000000000000"}},
  "sources": [{"path": "items.csv", "bytes": 7,
    "digest": "0000000000000000000000000000000000000000000000000000000000000000"}],
  "options": {"seed": 1}}"#;

fn shape() -> Shape {
    let json = serde_json::json!({"model_type": "qwen2", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": true});
    Shape::from_json(&json).unwrap()
}
