//! What no single crate can test: numerics against PyTorch, end to end, command line.
//!
//! The library is what fuzzers call: [`decoders`], everything that reads bytes which others have written.

pub mod decoders;
