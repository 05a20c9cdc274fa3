//! The domain of RISER, pure and synchronous.
//!
//! This crate holds everything that can be said about the method without a tensor, a socket or a clock: the catalog and
//! its prefix tree, item spelling, datasets and splits, rollout groups, the objective, ranking metrics, the typed
//! configuration and the seeded random streams. It refuses to know tokio, tonic and candle.
//!
//! Start reading at [`prefix_tree`] (the one data structure everything walks), then [`group`] and [`objective`].

pub mod activity;
pub mod atomic_file;
pub mod baselines;
pub mod batch_order;
pub mod bounded;
pub mod catalog;
pub mod cluster_status;
pub mod config;
pub mod data_folder;
pub mod dataset;
pub mod delta;
pub mod digest;
pub mod group;
pub mod group_set;
pub mod ids;
pub mod information;
pub mod learner_report;
pub mod lease;
pub mod lockstep;
pub mod logprob_space;
pub mod metrics;
pub mod objective;
pub mod pace;
pub mod pacing;
pub mod prefix_tree;
pub mod prepare;
pub mod prompt_order;
pub mod random;
pub mod refusals;
pub mod relay_roster;
pub mod report;
pub mod run_event;
pub mod selection;
pub mod snapshot;
pub mod spelling;
pub mod synthetic;
