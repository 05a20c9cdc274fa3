//! What the program is made of and tests want to drive directly; it does not print.
//!
//! [`cluster`] runs the three roles in one process; [`roles`] gives them a policy and data; [`settings`] turns the
//! configuration into the settings of the parts, [`joining`] into what a worker elsewhere is told; [`training_state`] is what a
//! checkpoint holds; [`ranking`], [`measurement`] and [`outlook`] judge a policy; [`run_log`] writes a run's event log into its
//! [`run_database`], and [`audit`] proves from it that the run kept its promises; [`room`] is what logs do on a full disk.

pub mod audit;
pub mod cluster;
pub mod joining;
pub mod measurement;
pub mod outlook;
pub mod ranking;
pub mod roles;
pub mod room;
pub mod run_database;
pub mod run_log;
pub mod settings;
pub mod training_state;
