//! A delta as bytes. All numbers are little-endian.
//!
//! ```text
//! magic           8   "riserdl1"
//! base, next      40  each: version u64, digest
//! tensors         u32
//! changed         u32, then for each, ascending by place:
//!   place         u32
//!   coding        u8    0 sparse, 1 full
//!   packed        u8    0 no, 1 zstd
//!   raw bytes     u64   size of the payload before packing
//!   payload bytes u64
//!   digest        32    of the tensor that results
//! payloads        one after another
//! seal            32  BLAKE3 of everything before
//! ```

use super::{Coding, DeltaError, PolicyDelta, TensorDelta};
use crate::{digest::Digest, ids::PolicyVersion, snapshot::PolicyIdentity};
use bytes::{BufMut, Bytes, BytesMut};

const MAGIC: &[u8; 8] = b"riserdl1";
const FIXED_BYTES: usize = 8 + 2 * 40 + 2 * 4;
const ENTRY_BYTES: usize = 4 + 1 + 1 + 8 + 8 + 32;
const SEAL_BYTES: usize = 32;

/// Puts the parts into bytes.
pub(super) fn seal(
    base: PolicyIdentity,
    next: PolicyIdentity,
    num_tensors: u32,
    changed: Vec<TensorDelta>,
) -> PolicyDelta {
    let payloads: usize = changed.iter().map(|tensor| tensor.payload.len()).sum();
    let mut out = BytesMut::with_capacity(FIXED_BYTES + ENTRY_BYTES * changed.len() + payloads + SEAL_BYTES);
    out.put_slice(MAGIC);
    for identity in [base, next] {
        out.put_u64_le(identity.version.0);
        out.put_slice(identity.digest.as_bytes());
    }
    out.put_u32_le(num_tensors);
    out.put_u32_le(changed.len() as u32);
    for tensor in &changed {
        out.put_u32_le(tensor.place);
        out.put_u8(match tensor.coding {
            Coding::Sparse => 0,
            Coding::Full => 1,
        });
        out.put_u8(tensor.is_packed.into());
        out.put_u64_le(tensor.raw_bytes);
        out.put_u64_le(tensor.payload.len() as u64);
        out.put_slice(tensor.digest.as_bytes());
    }
    changed.iter().for_each(|tensor| out.put_slice(&tensor.payload));
    let seal = Digest::of(&out);
    out.put_slice(seal.as_bytes());
    let encoded = out.freeze();
    // The payloads are already in there; keeping them a second time would double the memory.
    let mut at = FIXED_BYTES + ENTRY_BYTES * changed.len();
    let shared = |mut tensor: TensorDelta| {
        let end = at + tensor.payload.len();
        tensor.payload = encoded.slice(at..end);
        at = end;
        tensor
    };
    let changed = changed.into_iter().map(shared).collect();
    PolicyDelta { base, next, num_tensors, changed, encoded }
}

impl PolicyDelta {
    /// Reads a delta that came from elsewhere. What it does to a policy is only known by [`apply`](super::apply).
    ///
    /// # Errors
    /// [`DeltaError::Seal`] or [`DeltaError::Malformed`].
    pub fn decode(encoded: Bytes) -> Result<Self, DeltaError> {
        let body = encoded.len().checked_sub(SEAL_BYTES);
        let body = body.ok_or(DeltaError::Malformed { at: encoded.len(), expected: "a seal of 32 bytes" })?;
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&encoded[body..]);
        let (got, sealed) = (Digest::of(&encoded[..body]), Digest::from(seal));
        if got != sealed {
            return Err(DeltaError::Seal { got, sealed });
        }
        let mut reader = Reader { bytes: &encoded[..body], at: 0 };
        let magic = reader.array::<8>()?;
        reader.expect(magic == *MAGIC, "the magic `riserdl1` before")?;
        let (base, next) = (reader.identity()?, reader.identity()?);
        let (num_tensors, num_changed) = (reader.u32()?, reader.u32()?);
        reader.expect(num_changed <= num_tensors, "at most as many changed tensors as tensors")?;
        let mut changed: Vec<TensorDelta> = vec![];
        let mut sizes = vec![];
        for _ in 0..num_changed {
            let place = reader.u32()?;
            let ascends = changed.last().is_none_or(|before| before.place < place);
            reader.expect(ascends && place < num_tensors, "the place of a later tensor")?;
            let coding = match reader.flag("coding 0 or 1")? {
                false => Coding::Sparse,
                true => Coding::Full,
            };
            let is_packed = reader.flag("packed 0 or 1")?;
            let (raw_bytes, payload_bytes) = (reader.u64()?, reader.u64()?);
            reader.expect(is_packed || raw_bytes == payload_bytes, "a plain payload of its raw size")?;
            let digest = Digest::from(reader.array::<32>()?);
            sizes.push(payload_bytes);
            changed.push(TensorDelta { place, coding, is_packed, raw_bytes, digest, payload: Bytes::new() });
        }
        for (tensor, size) in changed.iter_mut().zip(sizes) {
            let size = usize::try_from(size).ok().filter(|&size| size <= body - reader.at);
            let size = size.ok_or(DeltaError::Malformed { at: reader.at, expected: "a whole payload" })?;
            tensor.payload = encoded.slice(reader.at..reader.at + size);
            reader.at += size;
        }
        reader.expect(reader.at == body, "the seal after the last payload")?;
        Ok(Self { base, next, num_tensors, changed, encoded })
    }
}

/// Reads numbers one after another.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DeltaError> {
        let array = self.bytes[self.at..].first_chunk::<N>().copied();
        let array = array.ok_or(DeltaError::Malformed { at: self.at, expected: "more bytes" })?;
        self.at += N;
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, DeltaError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DeltaError> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self, expected: &'static str) -> Result<bool, DeltaError> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(DeltaError::Malformed { at: self.at - 1, expected }),
        }
    }

    fn identity(&mut self) -> Result<PolicyIdentity, DeltaError> {
        Ok(PolicyIdentity { version: PolicyVersion(self.u64()?), digest: Digest::from(self.array::<32>()?) })
    }

    fn expect(&self, holds: bool, expected: &'static str) -> Result<(), DeltaError> {
        match holds {
            true => Ok(()),
            false => Err(DeltaError::Malformed { at: self.at, expected }),
        }
    }
}
