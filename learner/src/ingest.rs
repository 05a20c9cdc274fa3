//! Checking what arrives: nothing a worker sends is believed.

use crate::{
    LearnerConfig,
    batch_book::Admission,
    batcher::{Admitted, Arrival, BatcherHandle, Stopped},
    catalogs::TreesWatch,
    meter,
    publisher::{self, Shelf},
};
use riser_core::{
    digest::Digest,
    group::{GroupError, GroupLimits, RolloutGroup},
    ids::{GroupId, Incarnation, PolicyVersion},
    logprob_space::LogprobSpace,
    pacing::Pacing,
    prefix_tree::PrefixTree,
    run_event::{ArrivalFate, ArrivalRecord, RunEvent},
};
use riser_proto::{WireError, group, trace::TracePoint, v1};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Why a group was refused.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The message is malformed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The samples are not walks of our catalog.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The log-probabilities are of another policy.
    #[error("log-probabilities are in {got} space, the run is in {expected} space")]
    Space {
        /// The group's space.
        got: LogprobSpace,
        /// The run's space.
        expected: LogprobSpace,
    },
    /// Sampled with weights that we never published.
    #[error("sampled with policy version {version} of digest {}, published was {}", got.short(), expected.short())]
    Policy {
        /// The version.
        version: PolicyVersion,
        /// Digest of the weights that made the group.
        got: Digest,
        /// Digest of the weights we published.
        expected: Digest,
    },
    /// Larger than any group has a right to be.
    #[error("group {group} has {got} bytes, at most {limit} are accepted")]
    TooLarge {
        /// The group.
        group: u64,
        /// Its size on the wire.
        got: u64,
        /// The most we accept.
        limit: u64,
    },
}

/// The gate between the wire and the batcher; cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    learner: Incarnation,
    trees: TreesWatch,
    space: LogprobSpace,
    limits: GroupLimits,
    pacing: Pacing,
    shelf: watch::Receiver<Shelf>,
    group_bytes: u64,
    batcher: BatcherHandle,
    log: mpsc::Sender<RunEvent>,
}

impl Ingest {
    /// A gate for groups over `trees` as `config` wants them, sampled with the policies of `shelf`; what it refuses is written
    /// to `log`.
    pub(crate) fn new(
        config: &LearnerConfig,
        trees: TreesWatch,
        shelf: watch::Receiver<Shelf>,
        batcher: BatcherHandle,
        log: mpsc::Sender<RunEvent>,
    ) -> Self {
        // A group that does not fit into the budget of all groups could never be let in.
        let group_bytes = config.budget.group_bytes.min(config.budget.held_bytes);
        let (learner, space, limits, pacing) = (config.incarnation, config.space, config.limits, config.pacing);
        Self { learner, trees, space, limits, pacing, group_bytes, shelf, batcher, log }
    }

    /// Takes one group from the wire, which came at `trace` if that is known, and says what became of it. A learner that has just started answers once it has
    /// published its first version.
    ///
    /// # Errors
    /// [`Stopped`] if the role is ending; a wrong group is an acknowledgement that says so, not an error.
    pub async fn take(&self, message: v1::RolloutGroup, trace: Option<TracePoint>) -> Result<v1::GroupAck, Stopped> {
        let (group, version) = (message.id, message.version);
        let (origin, bytes) = (group::origin(&message), group::encoded_bytes(&message));
        let mut ack = v1::GroupAck { group, ..v1::GroupAck::default() };
        self.shelf.clone().wait_for(|shelf| !shelf.is_empty()).await.map_err(|_| Stopped)?;
        match self.check(message, bytes) {
            Ok(group) => {
                let Admitted { result, window } = self.batcher.admit(Arrival { group, origin, bytes, trace }).await?;
                ack.window = window;
                let (admission, reason) = match result {
                    Ok(Admission::Accepted) => (v1::Admission::Accepted, String::new()),
                    Ok(Admission::Duplicate) => (v1::Admission::Duplicate, String::new()),
                    Err(error) if error.is_wrong() => (v1::Admission::Rejected, error.to_string()),
                    Err(error) => (v1::Admission::Untimely, error.to_string()),
                };
                ack.set_admission(admission);
                ack.reason = reason;
            }
            Err(rejection) => {
                ack.set_admission(self.verdict(&rejection));
                ack.reason = rejection.to_string();
                let fate = match ack.admission() {
                    v1::Admission::Untimely => ArrivalFate::Untimely(ack.reason.clone()),
                    _ => ArrivalFate::Rejected(ack.reason.clone()),
                };
                meter::arrived(&fate, bytes);
                let (learner, group, version) = (self.learner, GroupId(group), PolicyVersion(version));
                let record = ArrivalRecord { learner, group, version, origin, bytes, fate };
                // Nobody has to keep a log.
                let _ = self.log.send(RunEvent::Arrival(record)).await;
            }
        }
        match ack.admission() {
            v1::Admission::Rejected => tracing::warn!(group, worker = origin.worker.0, ack.reason, "group rejected"),
            admission => tracing::debug!(group, ?admission, "group arrived"),
        }
        Ok(ack)
    }

    fn check(&self, message: v1::RolloutGroup, bytes: u64) -> Result<RolloutGroup, Rejection> {
        if bytes > self.group_bytes {
            return Err(Rejection::TooLarge { group: message.id, got: bytes, limit: self.group_bytes });
        }
        let group = RolloutGroup::try_from(message)?;
        if group.space != self.space {
            return Err(Rejection::Space { got: group.space, expected: self.space });
        }
        let tree = self.tree(group.catalog, group.id);
        group.validate(&tree, &self.limits)?;
        self.check_policy(&group)?;
        Ok(group)
    }

    /// The catalog that a group names; if there is no such one, the catalog of its batch, which it will not be found to be of.
    fn tree(&self, named: Digest, group: GroupId) -> Arc<PrefixTree> {
        let trees = self.trees.borrow();
        let expected = || self.batcher.catalogs().borrow().era_of(self.pacing.stretch_of(group)).catalog;
        let known = trees.get(&named).or_else(|| trees.get(&expected()));
        known.or_else(|| trees.values().next()).cloned().expect("the run's own catalog is always there")
    }

    fn may_be_honest(&self, catalog: Digest) -> bool {
        let plan = self.batcher.catalogs();
        let was_ours = plan.borrow().eras().iter().any(|era| era.catalog == catalog);
        was_ours || self.learner > Incarnation(1)
    }

    /// A version that is not on the shelf needs no check: the pacing has no place for its groups, or the group is a late copy.
    fn check_policy(&self, group: &RolloutGroup) -> Result<(), Rejection> {
        let (version, got) = (group.version, group.policy);
        match publisher::find(&self.shelf.borrow(), version).map(|policy| policy.digest()) {
            Some(expected) if expected != got => Err(Rejection::Policy { version, got, expected }),
            _ => Ok(()),
        }
    }

    /// In bounded mode a learner that went back to a checkpoint makes its versions anew, and other ones; in lockstep it does if
    /// a change of catalog was made or lost meanwhile. A worker that sampled
    /// with the old ones did nothing wrong. Neither did one that was slow with a catalog that has gone, or that heard of one from
    /// a learner before this one whose plan was lost with its disk.
    fn verdict(&self, rejection: &Rejection) -> v1::Admission {
        match (rejection, self.pacing) {
            (Rejection::Policy { .. }, Pacing::Bounded(_)) => v1::Admission::Untimely,
            (Rejection::Policy { .. }, Pacing::Lockstep(_)) if self.learner > Incarnation(1) => v1::Admission::Untimely,
            (Rejection::Group(GroupError::Catalog { got, .. }), _) if self.may_be_honest(*got) => {
                v1::Admission::Untimely
            }
            _ => v1::Admission::Rejected,
        }
    }
}
