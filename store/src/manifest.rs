//! What a checkpoint says about itself.

use crate::{
    damage::Damage,
    sealed::{self, SealError},
};
use riser_core::digest::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

/// Name of the manifest inside a checkpoint.
pub const NAME: &str = "checkpoint.json";

/// Size and digest of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Its size.
    pub bytes: u64,
    /// Digest of all of them.
    pub digest: Digest,
}

impl FileRecord {
    /// The record of a file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, digest: Digest::of(bytes) }
    }

    /// Whether a file that turned out to be `got` is the one that was written.
    pub(crate) fn check(self, file: &str, got: Self) -> Result<(), Damage> {
        let file = file.to_owned();
        if got.bytes != self.bytes {
            return Err(Damage::Size { file, got: got.bytes, expected: self.bytes });
        }
        if got.digest != self.digest {
            return Err(Damage::Digest { file, got: got.digest, expected: self.digest });
        }
        Ok(())
    }
}

/// What a checkpoint says about itself: its version, what its owner adds, and every file in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest<A> {
    /// Steps taken; checkpoints of a run are ordered by it.
    pub version: u64,
    /// What the owner says about the state.
    pub about: A,
    /// Every other file, by its name inside the checkpoint.
    pub files: BTreeMap<String, FileRecord>,
}

impl<A: Serialize + DeserializeOwned> Manifest<A> {
    /// The text that is written, and the digest that names the checkpoint: equal digests mean equal bytes in every file.
    pub(crate) fn seal(&self) -> Result<(Vec<u8>, Digest), SealError> {
        sealed::seal(self)
    }

    /// Reads a manifest that is expected to be of `version`.
    pub(crate) fn unseal(text: &[u8], version: u64) -> Result<(Self, Digest), Damage> {
        let (manifest, digest) = sealed::unseal::<Self>(text).map_err(Damage::Manifest)?;
        if manifest.version != version {
            return Err(Damage::Version { got: manifest.version, expected: version });
        }
        match manifest.files.keys().find(|name| !is_inside(name)) {
            Some(outside) => Err(Damage::Outside { file: outside.clone() }),
            None => Ok((manifest, digest)),
        }
    }
}

/// Whether a name stays inside the checkpoint, whatever it says; also a name that every object store takes.
pub(crate) fn is_inside(name: &str) -> bool {
    let plain = |component| matches!(component, Component::Normal(_));
    !name.is_empty()
        && name != NAME
        && !name.contains(['\\', '\0'])
        && name.split('/').all(|part| !part.is_empty())
        && Path::new(name).components().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leaves_the_checkpoint_is_not_inside() {
        for name in ["model.safetensors", "retained/00000039.safetensors"] {
            assert!(is_inside(name), "{name}");
        }
        for name in ["", "/etc/passwd", "../model", "a/../../b", "a//b", "a\\b", "./a", NAME, "a/"] {
            assert!(!is_inside(name), "{name}");
        }
    }

    #[test]
    fn a_manifest_of_another_version_or_with_a_name_outside_is_refused() {
        let manifest =
            |name: &str| Manifest { version: 3, about: (), files: [(name.to_owned(), FileRecord::of(b"x"))].into() };
        let (text, digest) = manifest("model").seal().unwrap();
        assert_eq!(Manifest::<()>::unseal(&text, 3).unwrap(), (manifest("model"), digest));
        let moved = Manifest::<()>::unseal(&text, 4).unwrap_err().to_string();
        assert_eq!(moved, "its manifest is of version 3, expected 4");
        let (text, _) = manifest("../model").seal().unwrap();
        assert!(matches!(Manifest::<()>::unseal(&text, 3), Err(Damage::Outside { file }) if file == "../model"));
    }
}
