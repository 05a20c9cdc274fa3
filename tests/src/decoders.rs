//! Every decoder of bytes that come from elsewhere, as a function that a fuzzer calls.
//!
//! A decoder may refuse anything. It must not panic, nor set aside memory that the input does not account for, and what it
//! accepts must be a value: written and read again it is the same. Where messages go on to a state machine, they do here.

#![expect(clippy::unwrap_used, reason = "panicking is how a defect is reported")]

mod files;
mod wire;

/// How a decoder's input is laid out, which tells a fuzzer how to change it.
#[derive(Debug, Clone, Copy)]
pub enum Layout {
    /// One protobuf message.
    Message,
    /// Protobuf messages, each after its length.
    Messages,
    /// Text.
    Text,
    /// Bytes with a digest somewhere, which `seal` makes right again after a change.
    Sealed {
        /// Makes the digest right if there is room for it.
        seal: fn(&mut Vec<u8>),
    },
    /// Bytes.
    Plain,
}

/// One decoder.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// Its name.
    pub name: &'static str,
    /// How its input is laid out.
    pub layout: Layout,
    /// Inputs that are accepted.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Decodes and panics if that shows a defect; says whether the input was accepted.
    pub decode: fn(&[u8]) -> bool,
}

/// All of them.
pub const ALL: &[Decoder] = &[
    wire::GROUP,
    wire::LEASE,
    wire::CLAIM,
    wire::REPORT,
    wire::JOIN,
    wire::CATALOG,
    wire::STATUS,
    wire::POLICY,
    wire::SUBSCRIPTION,
    wire::CERTIFICATE,
    files::PREFIX_TREE,
    files::DELTA,
    files::CHECKPOINT_MANIFEST,
    files::CONFIGURATION,
    files::MODEL_CONFIGURATION,
    files::MODEL_WEIGHTS,
    files::DATA_MANIFEST,
];

/// The decoder called `name`.
pub fn named(name: &str) -> Option<&'static Decoder> {
    ALL.iter().find(|decoder| decoder.name == name)
}
