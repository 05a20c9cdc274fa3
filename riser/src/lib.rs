//! What the program is made of and tests want to drive directly; it does not print.
//!
//! [`cluster`] runs the three roles in one process; [`roles`] gives them a policy and data; [`settings`] turns the
//! configuration into the settings of the parts, [`joining`] into what a worker elsewhere is told; [`ranking`] and [`measurement`] judge a policy.

pub mod cluster;
pub mod joining;
pub mod measurement;
pub mod ranking;
pub mod roles;
pub mod settings;
