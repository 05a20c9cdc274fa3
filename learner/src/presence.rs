//! How the learner appears to the rest of the cluster.

use riser_core::ids::PolicyVersion;
use riser_proto::{access::Access, incarnation::Incarnation};
use std::time::Duration;

/// Which learner this is, where it is and whom it lets in. The default is a learner inside one process with everybody else.
#[derive(Debug, Clone)]
pub struct Presence {
    /// How often the learner of this run has been started; 0 where nobody counts.
    pub incarnation: u64,
    /// How it makes itself known to a coordinator in another process.
    pub registration: Option<Registration>,
    /// What every caller must show.
    pub access: Access,
    /// Groups that no honest worker would send, after which a worker is refused.
    pub max_rejections: u32,
}

/// What the coordinator is told, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Host and port that workers reach the learner at.
    pub address: String,
    /// How often the learner of this run has been started.
    pub incarnation: u64,
    /// Pause between two signs of life.
    pub heartbeat: Duration,
}

impl Default for Presence {
    fn default() -> Self {
        Self { incarnation: 0, registration: None, access: Access::default(), max_rejections: 8 }
    }
}

impl Presence {
    /// This life of the learner, which starts at `start`.
    pub fn incarnation(&self, start: PolicyVersion) -> Incarnation {
        Incarnation { number: self.incarnation, start }
    }
}
