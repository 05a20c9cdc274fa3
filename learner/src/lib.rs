//! The learner: groups in, policy versions out.
//!
//! The actors, each in a file that says what it takes, waits for and gives: [`ingest`] checks every group that arrives,
//! [`batcher`] collects batches, [`steps`] trains on them, `saver` writes checkpoints behind it, the
//! [`publisher`] takes each version and [`distribution`] makes deltas of it for whoever subscribed. The learner waits for groups and for nobody else: a dead, frozen or slow worker costs it nothing.
//!
//! The crate refuses to know tensors; a [`Trainer`] does. Start reading at [`trainer`] and [`batch_book`].

pub mod activity;
pub mod batch_book;
pub mod batcher;
pub mod checkpoint;
pub mod conduct;
pub mod config;
pub mod distribution;
pub mod event;
pub mod ingest;
mod meter;
mod notifier;
pub mod presence;
pub mod publisher;
pub mod recovery;
mod role;
mod saver;
pub mod service;
pub mod snapshot_file;
pub mod steps;
pub mod trainer;
mod uploads;

pub use batcher::IngestBudget;
pub use config::LearnerConfig;
pub use event::{Event, Outcome};
pub use notifier::announce_end;
pub use role::{LearnerError, run};
pub use snapshot_file::SnapshotFileError;
pub use trainer::{Metrics, Trainer};
