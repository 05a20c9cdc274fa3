//! Rollout groups on the wire.
//!
//! The conversion checks the form only; whether the group walks the catalog is the receiver's question, who has the tree
//! ([`RolloutGroup::validate`]).

use crate::{WireError, error::digest, v1};
use prost::Message;
use riser_core::{
    group::{Completion, GroupStats, RolloutGroup, SubTree},
    ids::{GroupId, ItemIndex, NodeId, PolicyVersion, RowId, WorkerId},
    lease::{LeaseEpoch, LeaseId},
    logprob_space::LogprobSpace,
    run_event::Origin,
};

/// Size of a group on the wire.
pub fn encoded_bytes(group: &v1::RolloutGroup) -> u64 {
    group.encoded_len() as u64
}

/// Under which lease a group says it was sampled.
pub fn origin(group: &v1::RolloutGroup) -> Origin {
    Origin { worker: WorkerId(group.worker), lease: LeaseId(group.lease), epoch: LeaseEpoch(group.epoch) }
}

/// A group on its way to the learner, with the lease it was sampled under.
pub fn labelled(group: RolloutGroup, origin: Origin) -> v1::RolloutGroup {
    let Origin { worker, lease, epoch } = origin;
    v1::RolloutGroup { worker: worker.0, lease: lease.0, epoch: epoch.0, ..group.into() }
}

impl From<RolloutGroup> for v1::RolloutGroup {
    fn from(group: RolloutGroup) -> Self {
        let RolloutGroup { id, row, version, policy, catalog, space, prompt, target, subtree, completions, .. } = group;
        let space = match space {
            LogprobSpace::Vocabulary => v1::LogprobSpace::Vocabulary,
            LogprobSpace::Catalog => v1::LogprobSpace::Catalog,
        };
        let GroupStats { token_entropy, branch_entropy, item_entropy, legal_mass } = group.stats;
        Self {
            id: id.0,
            row: row.0,
            version: version.0,
            policy: policy.as_bytes().to_vec().into(),
            catalog: catalog.as_bytes().to_vec().into(),
            space: space.into(),
            prompt,
            target: target.0,
            subtree: Some(v1::SubTree {
                parent: subtree.parent,
                token: subtree.token,
                node: subtree.node.into_iter().map(|node| node.0).collect(),
                logprob: subtree.logprob,
                children: subtree.children,
            }),
            completions: completions
                .into_iter()
                .map(|Completion { leaf, item, reward }| v1::Completion { leaf, item: item.0, reward })
                .collect(),
            sampled: group.sampled,
            unique: group.unique,
            stats: Some(v1::GroupStats { token_entropy, branch_entropy, item_entropy, legal_mass }),
            worker: 0,
            lease: 0,
            epoch: 0,
        }
    }
}

impl TryFrom<v1::RolloutGroup> for RolloutGroup {
    type Error = WireError;

    fn try_from(group: v1::RolloutGroup) -> Result<Self, WireError> {
        let space = match v1::LogprobSpace::try_from(group.space) {
            Ok(v1::LogprobSpace::Vocabulary) => LogprobSpace::Vocabulary,
            Ok(v1::LogprobSpace::Catalog) => LogprobSpace::Catalog,
            _ => return Err(WireError::Unknown { field: "space", value: group.space }),
        };
        let subtree = group.subtree.ok_or(WireError::Missing { field: "subtree" })?;
        let stats = group.stats.ok_or(WireError::Missing { field: "stats" })?;
        Ok(Self {
            id: GroupId(group.id),
            row: RowId(group.row),
            version: PolicyVersion(group.version),
            policy: digest("policy", &group.policy)?,
            catalog: digest("catalog", &group.catalog)?,
            space,
            prompt: group.prompt,
            target: ItemIndex(group.target),
            subtree: SubTree {
                parent: subtree.parent,
                token: subtree.token,
                node: subtree.node.into_iter().map(NodeId).collect(),
                logprob: subtree.logprob,
                children: subtree.children,
            },
            completions: group
                .completions
                .into_iter()
                .map(|v1::Completion { leaf, item, reward }| Completion { leaf, item: ItemIndex(item), reward })
                .collect(),
            sampled: group.sampled,
            unique: group.unique,
            stats: GroupStats {
                token_entropy: stats.token_entropy,
                branch_entropy: stats.branch_entropy,
                item_entropy: stats.item_entropy,
                legal_mass: stats.legal_mass,
            },
        })
    }
}
