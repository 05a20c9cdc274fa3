//! What no single crate can test: numerics against PyTorch, end to end, command line.
//!
//! The library is what fuzzers call: [`decoders`], everything that reads bytes which others have written, [`mutation`], which
//! makes inputs that are nearly right, and [`memory`], which sees how much a decoder sets aside for one.

pub mod decoders;
pub mod memory;
pub mod mutation;
