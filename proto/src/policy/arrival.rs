//! Putting policies together again.

use crate::{
    WireError,
    error::digest,
    v1::{self, policy_chunk::Part},
};
use bytes::BytesMut;
use riser_core::{
    delta::{self, PolicyDelta},
    digest::Digest,
    ids::PolicyVersion,
    snapshot::{PolicyIdentity, PolicySnapshot, SnapshotTensor, TensorDtype, size_of},
};
use std::sync::Arc;

/// Memory set aside for a policy before any of its bytes have come, at most.
const EAGER_BYTES: u64 = 64 << 20;

/// A policy that arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPolicy {
    /// The policy, verified.
    pub snapshot: PolicySnapshot,
    /// Oldest version that a lease may still name.
    pub oldest: PolicyVersion,
    /// What it came as, if not whole; for handing it on.
    pub delta: Option<Arc<PolicyDelta>>,
}

/// Collects the pieces of one policy after another. After an error the stream is worthless and must be opened again.
#[derive(Debug)]
pub struct PolicyReceiver {
    max_bytes: u64,
    arriving: Option<Arrival>,
}

/// All bytes of a policy or of a delta, not yet believed.
#[derive(Debug)]
pub struct Arrival {
    oldest: PolicyVersion,
    announced: PolicyIdentity,
    content: Content,
    total_bytes: u64,
    data: BytesMut,
}

#[derive(Debug)]
enum Content {
    Whole(Vec<AnnouncedTensor>),
    Delta { base: PolicyIdentity },
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

impl PolicyReceiver {
    /// A receiver that refuses policies of more than `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, arriving: None }
    }

    /// Takes the next piece; returns what it completes.
    ///
    /// # Errors
    /// [`WireError`] if the piece is out of place, or announces or brings too much.
    pub fn push(&mut self, chunk: v1::PolicyChunk) -> Result<Option<Arrival>, WireError> {
        match (chunk.part.ok_or(WireError::Missing { field: "part" })?, &mut self.arriving) {
            (Part::Heartbeat(v1::Heartbeat {}), _) => return Ok(None),
            (Part::Manifest(manifest), None) => self.arriving = Some(Arrival::whole(manifest, self.max_bytes)?),
            (Part::Delta(manifest), None) => self.arriving = Some(Arrival::delta(&manifest, self.max_bytes)?),
            (Part::Data(data), Some(arriving)) => arriving.append(&data)?,
            (Part::Manifest(_) | Part::Delta(_), Some(_)) => {
                return Err(WireError::Unexpected { expected: "policy data", got: "a policy manifest" });
            }
            (Part::Data(_), None) => {
                return Err(WireError::Unexpected { expected: "a policy manifest", got: "policy data" });
            }
        }
        Ok(self.arriving.take_if(|arriving| arriving.data.len() as u64 == arriving.total_bytes))
    }
}

impl Arrival {
    fn whole(manifest: v1::PolicyManifest, max_bytes: u64) -> Result<Self, WireError> {
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
        let digest = digest("digest", &manifest.digest)?;
        let announced = PolicyIdentity { version: PolicyVersion(manifest.version), digest };
        Ok(Self::announce(announced, manifest.oldest, Content::Whole(tensors), total_bytes))
    }

    fn delta(manifest: &v1::DeltaManifest, max_bytes: u64) -> Result<Self, WireError> {
        if manifest.bytes > max_bytes {
            return Err(WireError::TooLarge { field: "bytes", got: manifest.bytes, limit: max_bytes });
        }
        let (version, base_version) = (PolicyVersion(manifest.version), PolicyVersion(manifest.base_version));
        let announced = PolicyIdentity { version, digest: digest("digest", &manifest.digest)? };
        let base = PolicyIdentity { version: base_version, digest: digest("base_digest", &manifest.base_digest)? };
        Ok(Self::announce(announced, manifest.oldest, Content::Delta { base }, manifest.bytes))
    }

    fn announce(announced: PolicyIdentity, oldest: u64, content: Content, total_bytes: u64) -> Self {
        let data = BytesMut::with_capacity(total_bytes.min(EAGER_BYTES) as usize);
        Self { oldest: PolicyVersion(oldest), announced, content, total_bytes, data }
    }

    fn append(&mut self, data: &[u8]) -> Result<(), WireError> {
        let got = self.data.len() as u64 + data.len() as u64;
        if got > self.total_bytes {
            return Err(WireError::Overrun { what: "policy", got, announced: self.total_bytes });
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    /// Bytes that were announced, and have come.
    pub fn num_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Whether it is the way from another policy rather than a whole one.
    pub fn is_delta(&self) -> bool {
        matches!(self.content, Content::Delta { .. })
    }

    /// Makes the policy; `held` is the one that arrived before it. Reads every byte several times: not for a thread that
    /// others wait for.
    ///
    /// # Errors
    /// [`WireError`] if the bytes are not what was announced, or lead from another policy than `held`.
    pub fn open(self, held: Option<&PolicySnapshot>) -> Result<ReceivedPolicy, WireError> {
        let Self { oldest, announced, content, data, .. } = self;
        let (snapshot, delta) = match content {
            Content::Whole(tensors) => (whole(announced.version, tensors, data)?, None),
            Content::Delta { base } => {
                let held = held.filter(|held| held.identity() == base);
                let held = held.ok_or(WireError::Base { base, version: announced.version })?;
                let delta = PolicyDelta::decode(data.freeze())?;
                (delta::apply(held, &delta)?, Some(Arc::new(delta)))
            }
        };
        if snapshot.identity() != announced {
            let what = format!("policy version {}", announced.version);
            return Err(WireError::Mismatch { what, got: snapshot.digest(), announced: announced.digest });
        }
        Ok(ReceivedPolicy { snapshot, oldest, delta })
    }
}

fn whole(version: PolicyVersion, announced: Vec<AnnouncedTensor>, data: BytesMut) -> Result<PolicySnapshot, WireError> {
    let mut data = data.freeze();
    let mut tensors = Vec::with_capacity(announced.len());
    for AnnouncedTensor { name, shape, dtype, digest: announced, len } in announced {
        let tensor = SnapshotTensor::new(name, shape, dtype, data.split_to(len))?;
        if tensor.digest() != announced {
            let what = format!("tensor `{}`", tensor.name());
            return Err(WireError::Mismatch { what, got: tensor.digest(), announced });
        }
        tensors.push(tensor);
    }
    Ok(PolicySnapshot::new(version, tensors)?)
}

/// Receives and opens policies one after another on the calling thread.
#[derive(Debug)]
pub struct PolicyAssembler {
    receiver: PolicyReceiver,
    held: Option<PolicySnapshot>,
}

impl PolicyAssembler {
    /// An assembler that holds nothing and refuses policies of more than `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        Self { receiver: PolicyReceiver::new(max_bytes), held: None }
    }

    /// An assembler that holds the policy which the first delta starts from.
    pub fn holding(held: PolicySnapshot, max_bytes: u64) -> Self {
        Self { receiver: PolicyReceiver::new(max_bytes), held: Some(held) }
    }

    /// Takes the next piece; returns the policy that it completes.
    ///
    /// # Errors
    /// As [`PolicyReceiver::push`] and [`Arrival::open`].
    pub fn push(&mut self, chunk: v1::PolicyChunk) -> Result<Option<ReceivedPolicy>, WireError> {
        let Some(arrival) = self.receiver.push(chunk)? else { return Ok(None) };
        let received = arrival.open(self.held.as_ref())?;
        self.held = Some(received.snapshot.clone());
        Ok(Some(received))
    }
}
