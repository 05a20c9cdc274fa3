//! The wire, and nothing else: what the three roles say to each other.
//!
//! [`v1`] is generated from `proto/riser/v1/*.proto`. Around it: conversions to core types that believe nothing
//! ([`group`], [`lease`], [`policy`], [`catalog`], [`join`], [`status`]), the settings of both ends of a connection
//! ([`transport`]), who may come in ([`access`]) and what is shown at the door ([`channel`]), how a call is bounded and repeated
//! ([`call`]), what caused it ([`trace`]), how policies are sent to subscribers, which learner and workers do alike
//! ([`policy_feed`]), and how the roles keep long work off the threads that serve it ([`offload`](mod@offload)). The crate
//! refuses to know what
//! a role does with a message.
//!
//! Start reading at `proto/riser/v1/coordinator.proto`.

pub mod access;
pub mod call;
pub mod catalog;
pub mod channel;
pub mod egress;
pub mod error;
pub mod group;
pub mod health;
pub mod join;
pub mod lease;
pub mod offload;
pub mod policy;
pub mod policy_feed;
pub mod status;
pub mod trace;
pub mod transport;

pub use error::WireError;

/// Generated messages, clients and servers of protocol version 1.
#[expect(missing_docs, reason = "generated; the documentation is in the .proto files")]
pub mod v1 {
    tonic::include_proto!("riser.v1");
}

#[cfg(test)]
mod tests;
