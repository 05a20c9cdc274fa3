//! The policy: a Qwen2 decoder over the token forest, the descents of the prefix tree, and the training step.
//!
//! This is the only crate that names candle. It knows nothing of sockets, clocks and processes.
//!
//! Start reading at [`model`] (one definition of the model for worker, learner and evaluator) and [`forest`] (what it runs
//! over); [`rollout`] and [`search`] descend the tree, [`sft`] and [`reinforce`] train.

pub mod beam;
mod cache;
pub mod checkpoint;
pub mod core_tree;
pub mod cost;
mod descent;
pub mod distribution;
pub mod exact;
pub mod forest;
pub mod inference;
pub mod kernels;
pub mod memory;
pub mod model;
mod operations;
pub mod optimizer;
pub mod parameters;
pub mod ranking;
pub mod reinforce;
pub mod rollout;
mod rows;
mod runs;
pub mod schedule;
pub mod search;
pub mod sft;
pub mod shape;
mod shards;
mod tape;
#[cfg(test)]
mod testing;
pub mod training;

pub use candle_core::{Device, Error as TensorError};
