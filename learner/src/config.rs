//! What the learner needs to know about the run.

use crate::{activity::Activity, batcher::IngestBudget, distribution::DistributionSettings, presence::Presence};
use riser_core::{
    digest::Digest,
    group::GroupLimits,
    group_set::GroupSet,
    ids::{Incarnation, PolicyVersion},
    logprob_space::LogprobSpace,
    pacing::Pacing,
    run_event::RunEvent,
    snapshot::{PolicySnapshot, TensorDtype},
};
use riser_proto::{call::Patience, egress::EgressLedger, policy_feed::FeedSettings};
use riser_store::{Disk, DurableStore, FileSystem, Skipped};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// Settings of the learner.
#[derive(Debug, Clone)]
pub struct LearnerConfig {
    /// Batches, versions and what lies between them.
    pub pacing: Pacing,
    /// Which start of the learner this is.
    pub incarnation: Incarnation,
    /// The space that every group must have its log-probabilities in.
    pub space: LogprobSpace,
    /// Batches of the whole run.
    pub total_batches: u64,
    /// Version the trainer is at.
    pub start_version: PolicyVersion,
    /// Digest that the trainer's policy must have at the start, from the checkpoint; `None` for a new run.
    pub start_digest: Option<Digest>,
    /// Groups that were trained on up to `start_version`, from the checkpoint.
    pub consumed: GroupSet,
    /// Policies before `start_version` that new leases name, from the checkpoint; see [`Pacing::resumed_with`].
    pub retained: Vec<PolicySnapshot>,
    /// Sizes beyond which a group is refused.
    pub limits: GroupLimits,
    /// Bytes that workers may send.
    pub budget: IngestBudget,
    /// Steps between evaluations; 0 for none. The last version is always evaluated then.
    pub evaluate_every: u64,
    /// Whether to evaluate before the first step of the run as well.
    pub evaluate_at_start: bool,
    /// Where and how often to keep checkpoints; `None` for none.
    pub checkpoints: Option<CheckpointConfig>,
    /// The disk that checkpoints are written to.
    pub files: Arc<dyn FileSystem>,
    /// Where finished checkpoints are copied to; `None` for nowhere.
    pub durable: Option<DurableConfig>,
    /// Damaged checkpoints that recovery passed over, to be told to whoever watches the run.
    pub skipped: Vec<Skipped>,
    /// Number format that policies are served in; training and checkpoints keep the trainer's own.
    pub served_dtype: TensorDtype,
    /// How versions are encoded.
    pub distribution: DistributionSettings,
    /// Where the bytes of subscriptions are counted; keep a clone to read it.
    pub egress: EgressLedger,
    /// Workers that may subscribe at one time.
    pub max_subscribers: usize,
    /// Silence after which the publisher says that it is alive.
    pub heartbeat: Duration,
    /// How long a subscriber may leave a message untaken before it is dropped.
    pub subscriber_timeout: Duration,
    /// Patience with the coordinator.
    pub patience: Patience,
    /// Longest silence towards the coordinator.
    pub report_every: Duration,
    /// How it appears to the rest of the cluster.
    pub presence: Presence,
    /// What it is at; keep a clone to read it.
    pub activity: Activity,
    /// The run's event log; waited for when it is full, `None` keeps no log.
    pub log: Option<mpsc::Sender<RunEvent>>,
    /// How many steps and evaluations each log that must not lose any has on the disk by now: the event log, and what is made
    /// of [`Event`](crate::Event)s. A checkpoint waits for them, so that no run goes on from what its logs do not tell; and so
    /// does a step, when they are behind.
    pub logs: Vec<watch::Receiver<u64>>,
}

impl LearnerConfig {
    /// In lockstep the version says which groups were trained on, so nobody has to.
    pub(crate) fn with_consumed(mut self) -> Self {
        if let Pacing::Lockstep(lockstep) = self.pacing {
            self.consumed = GroupSet::below(lockstep.groups_of(self.start_version.0).start);
        }
        self
    }
}

/// Where and how often to keep checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Folder of all checkpoints of the run.
    pub folder: PathBuf,
    /// Steps between checkpoints; 0 keeps one at the end only. The end of a session always has one.
    pub every: u64,
    /// Newest checkpoints to keep; older ones are deleted. At least one is kept.
    pub keep: usize,
}

/// The durable store of a run.
#[derive(Debug, Clone)]
pub struct DurableConfig {
    /// The store, at the place of this run.
    pub store: DurableStore,
    /// Newest checkpoints to keep there.
    pub keep: usize,
}

impl LearnerConfig {
    /// A learner at the beginning of a run that evaluates nothing and keeps no checkpoints.
    pub fn new(pacing: Pacing, space: LogprobSpace, total_batches: u64) -> Self {
        Self {
            pacing,
            incarnation: Incarnation(1),
            space,
            total_batches,
            start_version: PolicyVersion(0),
            start_digest: None,
            consumed: GroupSet::default(),
            retained: vec![],
            limits: GroupLimits::default(),
            budget: IngestBudget::default(),
            evaluate_every: 0,
            evaluate_at_start: false,
            checkpoints: None,
            files: Arc::new(Disk),
            durable: None,
            skipped: vec![],
            served_dtype: TensorDtype::F32,
            distribution: DistributionSettings::default(),
            egress: EgressLedger::default(),
            max_subscribers: 1024,
            heartbeat: Duration::from_secs(10),
            subscriber_timeout: Duration::from_secs(60),
            patience: Patience::default(),
            report_every: Duration::from_secs(5),
            presence: Presence::default(),
            activity: Activity::default(),
            log: None,
            logs: vec![],
        }
    }

    /// How subscriptions are served.
    pub(crate) fn feed(&self) -> FeedSettings {
        FeedSettings {
            heartbeat: Some(self.heartbeat),
            subscriber_timeout: self.subscriber_timeout,
            max_subscribers: self.max_subscribers,
        }
    }
}
