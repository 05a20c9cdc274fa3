//! What became of the leases.

use serde::Serialize;

/// Holdings of leases by how they ended. Every one is counted exactly once on the right:
///
/// ```text
/// granted + adopted = completed + released + expired + overtaken + outrun + rewound + in flight
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Handed to a worker.
    pub granted: u64,
    /// Those of the granted that were handed to a second worker because the first was slow.
    pub doubled: u64,
    /// Held since an earlier coordinator, and recognised.
    pub adopted: u64,
    /// Ended by its holder with every group acknowledged.
    pub completed: u64,
    /// Given back by its holder.
    pub released: u64,
    /// Not renewed in time.
    pub expired: u64,
    /// Still out when the learner reported every group of it. Harmless and common.
    pub overtaken: u64,
    /// Completed by the other holder first.
    pub outrun: u64,
    /// No longer wanted because the learner went back to a checkpoint.
    pub rewound: u64,
    /// Completed leases that the learner never got. Offered again; not a holding, hence not in the sum.
    pub missing: u64,
    /// Messages about a lease that was no longer the sender's. Not a holding, hence not in the sum.
    pub refused: u64,
}
