//! How the learner appears to the rest of the cluster.

use riser_proto::access::Access;

/// Where the learner is and whom it lets in. The default is a learner inside one process with everybody else.
#[derive(Debug, Clone)]
pub struct Presence {
    /// Host and port that workers reach it at, which a coordinator in another process has to be told; `None` if they know.
    pub address: Option<String>,
    /// What every caller must show.
    pub access: Access,
    /// Groups that no honest worker would send, after which a worker is refused.
    pub max_rejections: u32,
}

impl Default for Presence {
    fn default() -> Self {
        Self { address: None, access: Access::default(), max_rejections: 8 }
    }
}
