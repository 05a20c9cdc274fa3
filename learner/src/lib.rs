//! The learner: groups in, policy versions out.
//!
//! Four actors, each in a file that says what it takes, waits for and gives: [`ingest`] checks every group that arrives,
//! [`batcher`] collects batches, [`steps`] trains on them and keeps checkpoints, [`publisher`] pushes each version to
//! whoever subscribed. The learner waits for groups and for nobody else: a dead, frozen or slow worker costs it nothing.
//!
//! The crate refuses to know tensors; a [`Trainer`] does. Start reading at [`trainer`] and [`batch_book`].

pub mod batch_book;
pub mod batcher;
pub mod checkpoint;
pub mod conduct;
pub mod config;
pub mod event;
pub mod ingest;
mod notifier;
pub mod presence;
pub mod publisher;
mod role;
pub mod service;
mod snapshot_file;
pub mod steps;
pub mod trainer;

pub use config::LearnerConfig;
pub use event::{Event, Outcome};
pub use notifier::announce;
pub use role::{LearnerError, run};
pub use snapshot_file::SnapshotFileError;
pub use trainer::{Metrics, Trainer};
