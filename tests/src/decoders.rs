//! Every decoder of bytes that come from elsewhere, as a function that a fuzzer calls.
//!
//! A decoder may refuse anything. It must not panic, nor set aside memory that the input does not account for, and what it
//! accepts must be a value: written and read again it is the same. Where messages go on to a state machine, they do here.

#![expect(clippy::unwrap_used, reason = "panicking is how a defect is reported")]

mod data;
mod files;
mod wire;

use crate::memory;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Inputs of an ordinary test run; fewer where a decoder takes long.
const MANY: u64 = 20_000;
const FEW: u64 = 1_000;

/// Most memory that a decoder may set aside at once for inputs of a few kilobytes: what it uses to begin with, and policies
/// of the announced size up to the limit that it was given.
const MOST_BYTES: usize = 8 << 20;

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
    /// Inputs of an ordinary test run.
    pub inputs: u64,
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
    files::PREFIX_TREE,
    files::DELTA,
    files::CHECKPOINT_MANIFEST,
    files::LEARNER_MANIFEST,
    files::POLICY_FILE,
    files::CONFIGURATION,
    files::MODEL_CONFIGURATION,
    files::MODEL_WEIGHTS,
    files::DATA_MANIFEST,
    data::ITEM_TABLE,
    data::ROW_TABLE,
    data::PROMPT_TABLE,
    data::TOKENIZER,
    data::TEMPLATE,
    data::D3,
    data::INTERACTIONS,
];

/// The decoder called `name`.
pub fn named(name: &str) -> Option<&'static Decoder> {
    ALL.iter().find(|decoder| decoder.name == name)
}

impl Decoder {
    /// Decodes once and says whether the input was accepted.
    ///
    /// # Panics
    /// If the decoder does, or sets too much memory aside; the message names decoder and input.
    pub fn check(&self, input: &[u8]) -> bool {
        memory::forget();
        let accepted = catch_unwind(AssertUnwindSafe(|| (self.decode)(input)));
        let largest = memory::largest();
        assert!(largest <= MOST_BYTES, "{} sets {largest} bytes aside for {}", self.name, hex(input));
        accepted.unwrap_or_else(|_| panic!("{} panics on {}", self.name, hex(input)))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
