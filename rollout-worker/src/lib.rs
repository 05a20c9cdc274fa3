//! The rollout worker: leases prompts, samples groups, streams them to the learner.
//!
//! ```text
//! coordinator --catalog, leases--> [lease_loop] --groups--> learner
//! learner or parent --policies--> [policy_subscriber] --[policy_shelf]--> [lease_loop], [relay]
//! ```
//!
//! The sampler and the catalogs it samples from lie on the `workbench`.
//!
//! The worker remembers nothing that matters: whatever it was doing when it died is leased again. The crate refuses to
//! know tensors; a [`Sampler`] does. [`member`] joins a run that is elsewhere. Start reading at [`sampler`] and [`lease_loop`].

mod activity;
pub mod catalog;
pub mod config;
pub mod error;
pub mod lease_loop;
pub mod member;
mod meter;
pub mod policy_shelf;
pub mod policy_subscriber;
pub mod relay;
mod role;
pub mod sampler;
mod submission;
mod workbench;

pub use config::WorkerConfig;
pub use error::WorkerError;
pub use lease_loop::Summary;
pub use role::{Ending, WorkerPlace, run, run_at};
pub use sampler::{Sampler, SamplerError, SamplerFactory};
