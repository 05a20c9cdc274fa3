//! A cluster whose workers hand policies on to each other.

use crate::{
    hash_policy::{self, HashTrainer},
    network,
    scenario::{self, SEED, Scenario},
};
use riser_coordinator::schedule::ScheduleConfig;
use riser_core::{delta::offer::PolicyOffer, digest::Digest, ids::WorkerId};
use riser_proto::{
    access::Access,
    egress::{Egress, EgressLedger},
};
use riser_rollout_worker::{
    Ending, SamplerFactory, Summary, WorkerConfig, WorkerError, WorkerPlace,
    catalog::Sources,
    relay::{self, RelaySettings},
};
use std::sync::Arc;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::Channel;

pub(crate) type Connect = Arc<dyn Fn() -> Channel + Send + Sync>;

/// Coordinator and learner; workers are added one by one.
pub(crate) struct Tree {
    worker: WorkerConfig,
    pub(crate) to_coordinator: Connect,
    pub(crate) to_learner: Connect,
    pub(crate) learner: JoinHandle<Digest>,
    egress: EgressLedger,
    stop: CancellationToken,
    _coordinator: AbortOnDropHandle<()>,
}

/// A worker and its relay; dropping it kills both.
pub(crate) struct Member {
    pub(crate) running: AbortOnDropHandle<Result<Summary, WorkerError>>,
    pub(crate) shelf: watch::Sender<PolicyOffer>,
    pub(crate) connect: Connect,
    egress: EgressLedger,
    _relay: AbortOnDropHandle<()>,
}

impl Tree {
    pub(crate) fn plant(scenario: &Scenario) -> Self {
        let (coordinator, learner) = (network::place(), network::place());
        let (cluster, tree, stop) = (scenario.cluster(), hash_policy::tree(), CancellationToken::new());
        let schedule = ScheduleConfig { max_waiting: 64, ..scenario.schedule(1) };
        let (to_coordinator, to_learner) = (coordinator.connect.clone(), learner.connect.clone());
        let (catalog, stopped) = (tree.clone(), stop.clone());
        let coordinator = tokio::spawn(async move {
            let (prompts, log) = (scenario::prompts(), mpsc::channel(1).0);
            riser_coordinator::run(schedule, SEED, prompts, &catalog, coordinator.incoming, log, stopped)
                .await
                .unwrap();
        });
        let (events, _) = mpsc::channel(1);
        let (trainer, channel, stopped) = (Box::new(HashTrainer::new()), to_coordinator(), stop.clone());
        let egress = cluster.learner.egress.clone();
        let running = async move {
            let learner =
                riser_learner::run(cluster.learner, trainer, tree, channel, learner.incoming, events, stopped);
            learner.await.unwrap().digest
        };
        let (learner, _coordinator) = (tokio::spawn(running), AbortOnDropHandle::new(coordinator));
        Self { worker: cluster.worker, to_coordinator, to_learner, learner, egress, stop, _coordinator }
    }

    /// Adds a worker that takes its policies from `parent`, or from the learner.
    pub(crate) fn worker(&self, id: u64, parent: Option<&Connect>, samplers: Arc<dyn SamplerFactory>) -> Member {
        self.worker_with(id, parent, watch::Sender::default(), samplers)
    }

    /// The same with a shelf that the caller knows.
    pub(crate) fn worker_with(
        &self,
        id: u64,
        parent: Option<&Connect>,
        shelf: watch::Sender<PolicyOffer>,
        samplers: Arc<dyn SamplerFactory>,
    ) -> Member {
        let (place, egress) = (network::place(), EgressLedger::default());
        let serve = relay::serve(
            shelf.subscribe(),
            place.incoming,
            RelaySettings::default(),
            Access::default(),
            egress.clone(),
            self.stop.clone(),
        );
        let relay = tokio::spawn(async move { serve.await.unwrap() });
        let config = WorkerConfig { id: WorkerId(id), ..self.worker };
        let here = WorkerPlace {
            parent: parent.map(|connect| connect().into()),
            shelf: shelf.clone(),
            catalog: Sources::default(),
        };
        let worker = riser_rollout_worker::run_at(
            here,
            config,
            (self.to_coordinator)(),
            (self.to_learner)(),
            samplers,
            Ending { stop: self.stop.clone(), ..Ending::default() },
        );
        Member {
            running: AbortOnDropHandle::new(tokio::spawn(worker)),
            shelf,
            connect: place.connect,
            egress,
            _relay: AbortOnDropHandle::new(relay),
        }
    }

    /// What the learner's subscriptions have cost.
    pub(crate) fn egress(&self) -> Egress {
        self.egress.read()
    }
}

impl Member {
    /// What handing on has cost this worker.
    pub(crate) fn egress(&self) -> Egress {
        self.egress.read()
    }

    /// Waits until a version is in hand.
    pub(crate) async fn holds(&self, version: u64) {
        let here = |offer: &PolicyOffer| offer.newest().is_some_and(|newest| newest.version.0 >= version);
        self.shelf.subscribe().wait_for(here).await.unwrap();
    }
}
