//! Policies on the wire: a manifest, whole or delta, then bytes in pieces; believed once every digest agrees.
//!
//! This file makes the messages; `arrival` puts them together again; [`crate::policy_feed`] decides which to send.

mod arrival;

pub use arrival::{Arrival, PolicyAssembler, PolicyReceiver, ReceivedPolicy};

use crate::{
    WireError,
    error::digest,
    transport::CHUNK_BYTES,
    v1::{self, policy_chunk::Part},
};
use bytes::Bytes;
use riser_core::{
    delta::{PolicyDelta, offer::Delivery},
    ids::PolicyVersion,
    snapshot::{PolicyIdentity, PolicySnapshot, SnapshotTensor, TensorDtype},
};

/// Cuts `snapshot` into messages of at most [`CHUNK_BYTES`] of data. `oldest` is the oldest version still in use.
pub fn chunks(
    snapshot: &PolicySnapshot,
    oldest: PolicyVersion,
) -> impl Iterator<Item = v1::PolicyChunk> + Send + use<> {
    let manifest = v1::PolicyManifest {
        version: snapshot.version().0,
        digest: snapshot.digest().as_bytes().to_vec().into(),
        oldest: oldest.0,
        tensors: snapshot.tensors().iter().map(tensor_manifest).collect(),
    };
    // Cheap: `Bytes` are references to the tensor, not copies of it.
    pieces(Part::Manifest(manifest), snapshot.tensors().iter().map(|tensor| tensor.bytes().clone()).collect())
}

/// Cuts `delta` into messages of at most [`CHUNK_BYTES`] of data. `oldest` is the oldest version still in use.
pub fn delta_chunks(
    delta: &PolicyDelta,
    oldest: PolicyVersion,
) -> impl Iterator<Item = v1::PolicyChunk> + Send + use<> {
    let (base, next) = (delta.base(), delta.next());
    let manifest = v1::DeltaManifest {
        base_version: base.version.0,
        base_digest: base.digest.as_bytes().to_vec().into(),
        version: next.version.0,
        digest: next.digest.as_bytes().to_vec().into(),
        oldest: oldest.0,
        bytes: delta.encoded_bytes(),
    };
    pieces(Part::Delta(manifest), vec![delta.encoded().clone()])
}

/// The messages of whatever is to be sent.
pub fn delivery_chunks(delivery: &Delivery, oldest: PolicyVersion) -> Box<dyn Iterator<Item = v1::PolicyChunk> + Send> {
    match delivery {
        Delivery::Anchor(snapshot) => Box::new(chunks(snapshot, oldest)),
        Delivery::Delta(delta) => Box::new(delta_chunks(delta, oldest)),
    }
}

fn pieces(manifest: Part, data: Vec<Bytes>) -> impl Iterator<Item = v1::PolicyChunk> + Send {
    let data = data.into_iter().flat_map(|bytes| {
        (0..bytes.len())
            .step_by(CHUNK_BYTES)
            .map(move |start| Part::Data(bytes.slice(start..bytes.len().min(start + CHUNK_BYTES))))
    });
    std::iter::once(manifest).chain(data).map(|part| v1::PolicyChunk { part: Some(part) })
}

/// The message that says "alive, nothing new".
pub fn heartbeat() -> v1::PolicyChunk {
    v1::PolicyChunk { part: Some(Part::Heartbeat(v1::Heartbeat {})) }
}

/// A subscription to what comes after `held`; `None` asks for everything that is retained.
pub fn subscription(held: Option<PolicyIdentity>, worker: Option<u64>) -> v1::SubscribePolicyRequest {
    v1::SubscribePolicyRequest {
        after: held.map(|held| held.version.0),
        digest: held.map(|held| held.digest.as_bytes().to_vec().into()).unwrap_or_default(),
        worker,
    }
}

/// What a subscriber says it holds; nothing if it does not name the digest.
///
/// # Errors
/// [`WireError::Digest`] for a digest that is none.
pub fn held(request: &v1::SubscribePolicyRequest) -> Result<Option<PolicyIdentity>, WireError> {
    match request.after {
        Some(version) if !request.digest.is_empty() => {
            let digest = digest("digest", &request.digest)?;
            Ok(Some(PolicyIdentity { version: PolicyVersion(version), digest }))
        }
        _ => Ok(None),
    }
}

fn tensor_manifest(tensor: &SnapshotTensor) -> v1::TensorManifest {
    let dtype = match tensor.dtype() {
        TensorDtype::F32 => v1::TensorDtype::F32,
        TensorDtype::Bf16 => v1::TensorDtype::Bf16,
    };
    v1::TensorManifest {
        name: tensor.name().to_owned(),
        shape: tensor.shape().to_vec(),
        dtype: dtype.into(),
        digest: tensor.digest().as_bytes().to_vec().into(),
    }
}
