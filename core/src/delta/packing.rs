//! Packing payloads with zstd, where it pays.

use bytes::Bytes;

/// Whether payloads may be packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Packing {
    /// Never: for a network that is faster than the packer.
    Never,
    /// A payload that becomes smaller by an eighth or more is packed.
    #[default]
    WhenItPays,
}

/// Fastest setting; the higher ones gain a few percent for several times the work.
const LEVEL: i32 = 1;

/// Payloads below this size are left alone.
const LEAST_BYTES: usize = 512;

/// Of a larger payload, this much of its middle is tried first.
const SAMPLE_BYTES: usize = 256 << 10;

/// Packs `raw`, or returns it as it is; says whether it is packed.
pub(super) fn pack(raw: Bytes, packing: Packing) -> (Bytes, bool) {
    if packing == Packing::Never || raw.len() < LEAST_BYTES {
        return (raw, false);
    }
    if raw.len() > 4 * SAMPLE_BYTES {
        let start = (raw.len() - SAMPLE_BYTES) / 2;
        if packed(&raw[start..start + SAMPLE_BYTES]).is_none() {
            return (raw, false);
        }
    }
    match packed(&raw) {
        Some(packed) => (packed.into(), true),
        None => (raw, false),
    }
}

/// The packed bytes, if they are worth it.
fn packed(raw: &[u8]) -> Option<Vec<u8>> {
    // A packer without memory is no reason to fail: the payload goes as it is.
    let packed = zstd::bulk::compress(raw, LEVEL).ok()?;
    (packed.len() <= raw.len() - raw.len() / 8).then_some(packed)
}

/// Unpacks a payload of exactly `raw_bytes` bytes; never makes more of them.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn unpack(packed: &[u8], raw_bytes: usize) -> Result<Vec<u8>, String> {
    let raw = zstd::bulk::decompress(packed, raw_bytes).map_err(|error| error.to_string())?;
    match raw.len() == raw_bytes {
        true => Ok(raw),
        false => Err(format!("it has only {} bytes", raw.len())),
    }
}
