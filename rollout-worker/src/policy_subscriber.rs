//! The actor that keeps the policy shelf up to date.
//!
//! | | |
//! |---|---|
//! | takes | a policy stream, of the parent in the relay tree or of the learner; one message's bytes wait in the connection |
//! | waits for | the next version, or a heartbeat; the blocking thread that verifies what arrived |
//! | gives | the shelf, as a watch: readers see the newest state and never hold up the stream |
//!
//! A broken stream is opened again, from the newest version in hand; patience starts anew with every message. A parent that
//! does anything wrong is given up for the learner for good: the coordinator may have sent whoever listens there now to take its
//! policies from here, and two that take them from each other would hand on what is old for ever. A delta that does not fit
//! the policy in hand is refused, and everything is asked for whole.

use crate::{WorkerConfig, WorkerError, meter, policy_shelf};
use backon::BackoffBuilder;
use riser_core::{delta::offer::PolicyOffer, snapshot::PolicySnapshot};
use riser_proto::{
    WireError,
    call::{is_transient, within},
    offload::offload,
    policy::{self, Arrival, PolicyReceiver},
    transport::{self, Channel},
    v1,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tonic::{Status, Streaming};

/// How often those who take their policies from here hear that the stream is alive.
const PULSE: Duration = Duration::from_secs(10);

/// Whom a stream comes from.
#[derive(Debug, Clone)]
enum Source {
    Learner(Channel),
    Parent(Channel),
}

/// Why a stream ended, and whether what it brought is to be doubted.
struct Broken {
    error: WorkerError,
    by_delta: bool,
}

/// Keeps a shelf up to date.
pub(crate) struct PolicySubscriber {
    config: WorkerConfig,
    learner: Channel,
    parent: Option<Channel>,
    shelf: watch::Sender<PolicyOffer>,
    /// Whether the next subscription asks for everything, as if nothing were in hand.
    wants_anchor: bool,
    heard: bool,
    pulse: Option<Instant>,
}

impl PolicySubscriber {
    pub(crate) fn new(
        config: WorkerConfig,
        learner: Channel,
        parent: Option<Channel>,
        shelf: watch::Sender<PolicyOffer>,
    ) -> Self {
        Self { config, learner, parent, shelf, wants_anchor: false, heard: false, pulse: None }
    }

    /// Ends only with an error.
    pub(crate) async fn run(mut self) -> Result<Infallible, WorkerError> {
        let worker = self.config.id.0;
        let mut pauses = self.config.patience.pauses().build();
        loop {
            let source = match self.parent.take() {
                Some(parent) => Source::Parent(parent),
                None => Source::Learner(self.learner.clone()),
            };
            self.heard = false;
            let Err(Broken { error, by_delta }) = self.follow(&source).await;
            meter::reconnected();
            self.wants_anchor |= by_delta;
            if self.heard {
                pauses = self.config.patience.pauses().build();
            }
            if matches!(source, Source::Parent(_)) {
                tracing::warn!(worker, %error, "policies of the parent lost, asking the learner");
                continue;
            }
            let is_transient = matches!(&error, WorkerError::Learner(status) if is_transient(status));
            if !is_transient && !by_delta {
                return Err(error);
            }
            let Some(pause) = pauses.next() else { return Err(error) };
            tracing::info!(worker, %error, ?pause, "policy stream lost");
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows one stream until it breaks.
    async fn follow(&mut self, source: &Source) -> Result<Infallible, Broken> {
        let mut chunks = self.subscribe(source).await?;
        let mut receiver = PolicyReceiver::new(self.config.max_policy_bytes);
        loop {
            let chunk = within(self.config.policy_silence, chunks.message()).await;
            let chunk = chunk.map_err(|status| source.lost(status))?;
            let chunk = chunk.ok_or_else(|| source.lost(Status::unavailable("the policy stream ended")))?;
            self.heard = true;
            self.pulse();
            if let Some(arrival) = receiver.push(chunk).map_err(|wire| source.wrong(wire, false))? {
                self.open(arrival, source).await?;
            }
        }
    }

    async fn subscribe(&self, source: &Source) -> Result<Streaming<v1::PolicyChunk>, Broken> {
        let held = self.held().filter(|_| !self.wants_anchor).map(|held| held.identity());
        let request = policy::subscription(held, Some(self.config.id.0));
        let call = async {
            match source.clone() {
                Source::Learner(channel) => transport::learner_client(channel).subscribe_policy(request).await,
                Source::Parent(channel) => transport::relay_client(channel).subscribe_policy(request).await,
            }
        };
        let reply = within(self.config.patience.deadline, call).await.map_err(|status| source.lost(status))?;
        Ok(reply.into_inner())
    }

    /// Verifies what arrived and puts it on the shelf.
    async fn open(&mut self, arrival: Arrival, source: &Source) -> Result<(), Broken> {
        let (held, by_delta, bytes) = (self.held(), arrival.is_delta(), arrival.num_bytes());
        let opened = offload(move || arrival.open(held.as_deref())).await;
        let opened = opened.map_err(|error| Broken { error: WorkerError::panicked(error), by_delta: false })?;
        let received = opened.map_err(|wire| source.wrong(wire, by_delta))?;
        let (version, oldest) = (received.snapshot.version().0, received.oldest.0);
        tracing::debug!(worker = self.config.id.0, version, oldest, by_delta, "policy received");
        meter::received(received.snapshot.version(), by_delta, bytes);
        self.shelf.send_modify(|shelf| policy_shelf::add(shelf, received));
        self.wants_anchor = false;
        Ok(())
    }

    fn held(&self) -> Option<Arc<PolicySnapshot>> {
        self.shelf.borrow().policies().last().cloned()
    }

    /// Lets those who take their policies from here know that their source has a source.
    fn pulse(&mut self) {
        let now = Instant::now();
        if self.pulse.is_none_or(|last| now - last >= PULSE) {
            self.pulse = Some(now);
            self.shelf.send_modify(|_| {});
        }
    }
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::Learner(_) => "learner",
            Self::Parent(_) => "parent",
        }
    }

    fn lost(&self, status: Status) -> Broken {
        let error = match self {
            Self::Learner(_) => WorkerError::Learner(status),
            Self::Parent(_) => WorkerError::Parent(status),
        };
        Broken { error, by_delta: false }
    }

    fn wrong(&self, source: WireError, by_delta: bool) -> Broken {
        Broken { error: WorkerError::Wire { peer: self.name(), source }, by_delta }
    }
}
