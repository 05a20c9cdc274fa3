//! What became of the leases.

use serde::Serialize;

/// Leases by how they ended. Every lease that was granted is counted exactly once on the right:
///
/// ```text
/// granted = completed + released + expired + overtaken + fenced + in flight
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Handed to a worker.
    pub granted: u64,
    /// Ended by its holder with every group acknowledged.
    pub completed: u64,
    /// Given back by its holder.
    pub released: u64,
    /// Not renewed in time.
    pub expired: u64,
    /// Still out when its batch was trained on: the learner had the groups before a holder said so. Harmless and common.
    pub overtaken: u64,
    /// Out when a learner was started in place of another.
    pub fenced: u64,
    /// Messages about a lease that was no longer the sender's. Not a lease, hence not in the sum.
    pub refused: u64,
}
