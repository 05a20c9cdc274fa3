//! Policy snapshots on the wire: a manifest, then bytes in pieces; believed once every digest agrees.

use crate::{
    WireError,
    error::digest,
    transport::CHUNK_BYTES,
    v1::{self, policy_chunk::Part},
};
use bytes::{Bytes, BytesMut};
use riser_core::{
    digest::Digest,
    ids::PolicyVersion,
    snapshot::{PolicySnapshot, SnapshotTensor, TensorDtype, size_of},
};

/// Memory set aside for a snapshot before any of its bytes have come, at most.
const EAGER_BYTES: u64 = 64 << 20;

/// Cuts `snapshot` into messages of at most [`CHUNK_BYTES`] of data. `oldest` is the oldest version still in use.
pub fn chunks(snapshot: &PolicySnapshot, oldest: PolicyVersion) -> impl Iterator<Item = v1::PolicyChunk> + Send {
    let manifest = v1::PolicyManifest {
        version: snapshot.version().0,
        digest: snapshot.digest().as_bytes().to_vec().into(),
        oldest: oldest.0,
        tensors: snapshot.tensors().iter().map(tensor_manifest).collect(),
    };
    // Cheap: `Bytes` are references to the tensor, not copies of it.
    let tensors: Vec<Bytes> = snapshot.tensors().iter().map(|tensor| tensor.bytes().clone()).collect();
    let data = tensors.into_iter().flat_map(|bytes| {
        (0..bytes.len())
            .step_by(CHUNK_BYTES)
            .map(move |start| Part::Data(bytes.slice(start..bytes.len().min(start + CHUNK_BYTES))))
    });
    std::iter::once(Part::Manifest(manifest)).chain(data).map(|part| v1::PolicyChunk { part: Some(part) })
}

/// The message that says "alive, nothing new".
pub fn heartbeat() -> v1::PolicyChunk {
    v1::PolicyChunk { part: Some(Part::Heartbeat(v1::Heartbeat {})) }
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

/// A snapshot that arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPolicy {
    /// The policy, verified.
    pub snapshot: PolicySnapshot,
    /// Oldest version that a lease may still name.
    pub oldest: PolicyVersion,
}

/// Puts snapshots together from pieces. After an error the stream is worthless and must be opened again.
#[derive(Debug)]
pub struct PolicyAssembler {
    max_bytes: u64,
    arriving: Option<Arriving>,
}

#[derive(Debug)]
struct Arriving {
    version: PolicyVersion,
    digest: Digest,
    oldest: PolicyVersion,
    tensors: Vec<AnnouncedTensor>,
    total_bytes: u64,
    data: BytesMut,
}

#[derive(Debug)]
struct AnnouncedTensor {
    name: String,
    shape: Vec<u64>,
    dtype: TensorDtype,
    digest: Digest,
    /// Size of the tensor in bytes.
    len: usize,
}

impl PolicyAssembler {
    /// An assembler that refuses snapshots of more than `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, arriving: None }
    }

    /// Takes the next piece; returns the snapshot that it completes.
    ///
    /// # Errors
    /// [`WireError`] if the piece is out of place or if the finished snapshot is not what was announced.
    pub fn push(&mut self, chunk: v1::PolicyChunk) -> Result<Option<ReceivedPolicy>, WireError> {
        match (chunk.part.ok_or(WireError::Missing { field: "part" })?, &mut self.arriving) {
            (Part::Heartbeat(v1::Heartbeat {}), _) => return Ok(None),
            (Part::Manifest(manifest), None) => self.arriving = Some(Arriving::announce(manifest, self.max_bytes)?),
            (Part::Data(data), Some(arriving)) => arriving.append(&data)?,
            (Part::Manifest(_), Some(_)) => {
                return Err(WireError::Unexpected { expected: "policy data", got: "a policy manifest" });
            }
            (Part::Data(_), None) => {
                return Err(WireError::Unexpected { expected: "a policy manifest", got: "policy data" });
            }
        }
        match self.arriving.take_if(|arriving| arriving.data.len() as u64 == arriving.total_bytes) {
            Some(arrived) => arrived.finish().map(Some),
            None => Ok(None),
        }
    }
}

impl Arriving {
    fn announce(manifest: v1::PolicyManifest, max_bytes: u64) -> Result<Self, WireError> {
        let too_large = |got| WireError::TooLarge { field: "tensors", got, limit: max_bytes };
        let mut total_bytes = 0u64;
        let mut tensors = Vec::with_capacity(manifest.tensors.len());
        for tensor in manifest.tensors {
            let dtype = match v1::TensorDtype::try_from(tensor.dtype) {
                Ok(v1::TensorDtype::F32) => TensorDtype::F32,
                Ok(v1::TensorDtype::Bf16) => TensorDtype::Bf16,
                _ => return Err(WireError::Unknown { field: "dtype", value: tensor.dtype }),
            };
            let size = size_of(&tensor.shape, dtype).ok_or(too_large(u64::MAX))?;
            total_bytes = total_bytes.saturating_add(size);
            if total_bytes > max_bytes {
                return Err(too_large(total_bytes));
            }
            let len = usize::try_from(size).map_err(|_| too_large(size))?;
            let digest = digest("tensors.digest", &tensor.digest)?;
            tensors.push(AnnouncedTensor { name: tensor.name, shape: tensor.shape, dtype, digest, len });
        }
        Ok(Self {
            version: PolicyVersion(manifest.version),
            digest: digest("digest", &manifest.digest)?,
            oldest: PolicyVersion(manifest.oldest),
            tensors,
            total_bytes,
            data: BytesMut::with_capacity(total_bytes.min(EAGER_BYTES) as usize),
        })
    }

    fn append(&mut self, data: &[u8]) -> Result<(), WireError> {
        let got = self.data.len() as u64 + data.len() as u64;
        if got > self.total_bytes {
            return Err(WireError::Overrun { what: "policy", got, announced: self.total_bytes });
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn finish(self) -> Result<ReceivedPolicy, WireError> {
        let mut data = self.data.freeze();
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for AnnouncedTensor { name, shape, dtype, digest: announced, len } in self.tensors {
            let tensor = SnapshotTensor::new(name, shape, dtype, data.split_to(len))?;
            if tensor.digest() != announced {
                let what = format!("tensor `{}`", tensor.name());
                return Err(WireError::Mismatch { what, got: tensor.digest(), announced });
            }
            tensors.push(tensor);
        }
        let snapshot = PolicySnapshot::new(self.version, tensors)?;
        if snapshot.digest() != self.digest {
            let what = format!("policy version {}", self.version);
            return Err(WireError::Mismatch { what, got: snapshot.digest(), announced: self.digest });
        }
        Ok(ReceivedPolicy { snapshot, oldest: self.oldest })
    }
}
