//! Identifiers and versions as types, so that they cannot be swapped or subtracted by accident.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, bytemuck::TransparentWrapper)]
        #[serde(transparent)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

id! {
    /// Position of an item in the catalog's item list.
    ItemIndex(u32)
}
id! {
    /// A node of the prefix tree; the root is 0.
    NodeId(u32)
}
id! {
    /// Position of a row in its split. Rows are keyed by this, never by their history text.
    RowId(u32)
}
id! {
    /// A rollout group of a run: `batch * groups_per_batch + position in the batch`.
    GroupId(u64)
}
id! {
    /// Number of optimizer steps the policy has taken; 0 is the supervised checkpoint the run started from.
    PolicyVersion(u64)
}
id! {
    /// A rollout worker, as named by itself.
    WorkerId(u64)
}

id! {
    /// How often a role of a run has been started; later starts have higher numbers.
    Incarnation(u32)
}

impl PolicyVersion {
    /// The version after one more optimizer step.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many steps behind `learner` a sample of this version is; `None` if it comes from the future.
    pub fn staleness_at(self, learner: PolicyVersion) -> Option<u64> {
        learner.0.checked_sub(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staleness_of_a_future_version_does_not_exist() {
        assert_eq!(PolicyVersion(3).staleness_at(PolicyVersion(5)), Some(2));
        assert_eq!(PolicyVersion(5).staleness_at(PolicyVersion(3)), None);
    }
}
