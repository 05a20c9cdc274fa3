//! The actor that turns leases into groups.
//!
//! | | |
//! |---|---|
//! | takes | one lease at a time from the coordinator; policies from the shelf |
//! | waits for | work, the catalog and the policy that the lease names, the sampler, the learner's acknowledgements |
//! | gives | groups to the learner, the end of the lease to the coordinator |
//!
//! One lease is one call of the sampler. While it runs, the lease is renewed; a lease that is lost meanwhile is delivered
//! all the same: the learner counts the first copy of a group, whoever sends it.

use crate::{
    WorkerConfig, WorkerError,
    activity::Activity,
    policy_shelf::{Lookup, look_up},
    sampler::Sampler,
    submission::{self, Receipt},
    workbench::Workbench,
};
use riser_core::{
    activity::WorkerStage,
    delta::offer::PolicyOffer,
    digest::Digest,
    group::RolloutGroup,
    lease::{Claim, Lease, SampleRequest},
    run_event::Origin,
    snapshot::{PolicyIdentity, PolicySnapshot},
};
use riser_proto::{
    call::Patience,
    lease::{LeaseOutcome, LeaseReply, millis},
    trace::{self, TracePoint},
    transport::{self, Channel},
    v1::{self, coordinator_client::CoordinatorClient},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument;

/// Pause before the coordinator is asked again about a lease whose policy no batch seems to need.
const DOUBT: Duration = Duration::from_millis(500);

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Leases delivered.
    pub leases: u64,
    /// Groups delivered.
    pub groups: u64,
    /// Leases dropped because their batch had been trained meanwhile, or because the learner was started again.
    pub overtaken: u64,
    /// Leases given back because the learner had no place for a group of them.
    pub untimely: u64,
    /// Bytes of the catalog that were nowhere else and came from the coordinator.
    pub catalog_bytes: u64,
}

/// Owns the workbench.
pub(crate) struct LeaseLoop {
    config: WorkerConfig,
    coordinator: CoordinatorClient<Channel>,
    learner: Channel,
    shelf: watch::Receiver<PolicyOffer>,
    workbench: Workbench,
    drain: CancellationToken,
    activity: Arc<Activity>,
}

/// What became of a lease in hand.
enum Delivery {
    /// The learner has answered for every group.
    Received(Receipt),
    /// Nobody wants its groups any more.
    Overtaken,
    /// The worker is to end and had not begun to sample.
    Drained,
}

impl LeaseLoop {
    pub(crate) fn new(
        config: WorkerConfig,
        coordinator: Channel,
        learner: Channel,
        shelf: watch::Receiver<PolicyOffer>,
        workbench: Workbench,
        drain: CancellationToken,
        activity: Arc<Activity>,
    ) -> Self {
        let coordinator = transport::coordinator_client(coordinator);
        Self { config, coordinator, learner, shelf, workbench, drain, activity }
    }

    /// Works until the coordinator says that the run is over, or until it is to drain.
    pub(crate) async fn run(mut self, summary: &mut Summary) -> Result<(), WorkerError> {
        let ended = self.work_on(summary).await;
        summary.catalog_bytes = self.workbench.fetched;
        ended
    }

    async fn work_on(&mut self, summary: &mut Summary) -> Result<(), WorkerError> {
        let drain = self.drain.clone();
        while !drain.is_cancelled() {
            // A question that is dropped is one that the coordinator answers no more: it gives the work to someone else.
            let (reply, granted) = tokio::select! {
                biased;
                reply = self.ask() => reply?,
                () = drain.cancelled() => return Ok(()),
            };
            match reply {
                LeaseReply::Done => return Ok(()),
                LeaseReply::Wait => {}
                LeaseReply::Work(lease) => {
                    let span = tracing::info_span!("work", worker = self.config.id.0, lease = lease.id.0);
                    trace::follow(&span, granted);
                    self.work(lease, summary).instrument(span).await?;
                }
            }
        }
        Ok(())
    }

    /// Asks for work; with it comes the point of a trace that it was granted at.
    async fn ask(&mut self) -> Result<(LeaseReply, Option<TracePoint>), WorkerError> {
        self.activity.enter(WorkerStage::WaitingForLease);
        let (worker, wait_millis) = (self.config.id.0, millis(self.config.lease_wait));
        let call = || {
            let mut client = self.coordinator.clone();
            let report = Some(self.activity.report().into());
            async move {
                let response = client.lease(v1::LeaseRequest { worker, wait_millis, report }).await?;
                let granted = trace::received(response.metadata());
                Ok(response.map(|reply| (reply, granted)))
            }
        };
        let (reply, granted) = self.config.patience.retry(call).await.map_err(WorkerError::Coordinator)?;
        let reply = LeaseReply::try_from(reply);
        Ok((reply.map_err(|source| WorkerError::Wire { peer: "coordinator", source })?, granted))
    }

    async fn work(&mut self, lease: Lease, summary: &mut Summary) -> Result<(), WorkerError> {
        let worker = self.config.id.0;
        tracing::debug!(worker, lease = lease.id.0, epoch = lease.epoch.0, version = lease.version.0, "lease taken");
        let lost = CancellationToken::new();
        let keep_alive = renewals(self.holding(&lease), lease.timeout, lost.clone());
        let delivered = tokio::select! {
            delivered = self.deliver(&lease, &lost) => delivered,
            never = keep_alive => match never {},
        };
        match delivered {
            Ok(Delivery::Received(Receipt::Complete)) => {
                self.activity.delivered(lease.requests.len() as u64);
                self.end(&lease, LeaseOutcome::Done).await?;
                summary.leases += 1;
                summary.groups += lease.requests.len() as u64;
            }
            // Whoever gets the lease next samples it with a version that the learner has a place for.
            Ok(Delivery::Received(Receipt::Untimely)) => {
                self.end(&lease, LeaseOutcome::Released).await?;
                summary.untimely += 1;
            }
            // Its batch has been trained on, as the coordinator is about to hear. Giving the lease back would only bring it
            // here again.
            Ok(Delivery::Overtaken | Delivery::Received(Receipt::Unwanted)) => summary.overtaken += 1,
            Ok(Delivery::Drained) => self.end(&lease, LeaseOutcome::Released).await?,
            Err(error) => {
                // Someone else can try at once instead of waiting for the lease to expire.
                if let Err(unheard) = self.end(&lease, LeaseOutcome::Released).await {
                    tracing::info!(worker, error = %unheard, "lease could not be given back");
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Samples and submits.
    async fn deliver(&mut self, lease: &Lease, lost: &CancellationToken) -> Result<Delivery, WorkerError> {
        self.activity.enter(WorkerStage::WaitingForPolicy);
        if let Some(without) = self.lay_out(lease, lost).await? {
            return Ok(without);
        }
        let policy = match self.policy(lease, lost).await {
            Ok(policy) => policy,
            Err(without) => return Ok(without),
        };
        self.activity.enter(WorkerStage::Sampling);
        let sampling = self.sample(policy, lease.catalog, lease.requests.clone());
        let groups = sampling.instrument(tracing::info_span!("sample")).await?;
        self.activity.enter(WorkerStage::Sending);
        let origin = Origin { worker: self.config.id, lease: lease.id, epoch: lease.epoch };
        let holding = self.holding(lease);
        let is_held = move || {
            let holding = holding.clone();
            async move { holding.is_held().await }
        };
        let sending = submission::submit(&self.config, self.learner.clone(), groups, origin, is_held);
        sending.instrument(tracing::info_span!("send")).await.map(Delivery::Received)
    }

    fn claim(&self, lease: &Lease) -> Claim {
        Claim { lease: lease.id, epoch: lease.epoch, worker: self.config.id, version: lease.version }
    }

    fn holding(&self, lease: &Lease) -> Holding {
        let (client, patience) = (self.coordinator.clone(), self.config.patience);
        Holding { client, patience, claim: self.claim(lease), activity: self.activity.clone() }
    }

    /// Waits for the leased catalog; says what becomes of the lease if it is not to be had in time.
    async fn lay_out(&mut self, lease: &Lease, lost: &CancellationToken) -> Result<Option<Delivery>, WorkerError> {
        let drain = self.drain.clone();
        tokio::select! {
            laid_out = self.workbench.lay_out(lease.catalog) => laid_out.map(|()| None),
            () = lost.cancelled() => Ok(Some(Delivery::Overtaken)),
            () = drain.cancelled() => Ok(Some(Delivery::Drained)),
        }
    }

    /// Waits for the leased version; the error says what becomes of the lease without it.
    async fn policy(&mut self, lease: &Lease, lost: &CancellationToken) -> Result<Arc<PolicySnapshot>, Delivery> {
        let drain = self.drain.clone();
        loop {
            let lookup = look_up(&self.shelf.borrow_and_update(), lease.version);
            let is_gone = match lookup {
                Lookup::Here(policy) => return Ok(policy),
                Lookup::Gone => true,
                Lookup::NotYet => false,
            };
            // Either the lease is from before the learner was started again, or the shelf is.
            if is_gone && !self.holding(lease).is_held().await {
                return Err(Delivery::Overtaken);
            }
            tokio::select! {
                changed = self.shelf.changed() => if changed.is_err() {
                    // The subscriber has failed and its error ends the worker; until then there is nothing to do.
                    std::future::pending::<()>().await;
                },
                () = tokio::time::sleep(DOUBT), if is_gone => {}
                () = lost.cancelled() => return Err(Delivery::Overtaken),
                () = drain.cancelled() => return Err(Delivery::Drained),
            }
        }
    }

    async fn sample(
        &mut self,
        policy: Arc<PolicySnapshot>,
        catalog: Digest,
        requests: Vec<SampleRequest>,
    ) -> Result<Vec<RolloutGroup>, WorkerError> {
        let identity = policy.identity();
        let work = move |sampler: &mut dyn Sampler, is_loaded: bool| {
            sample(sampler, (!is_loaded).then_some(&policy), identity, catalog, &requests)
        };
        self.workbench.with_sampler(identity, work).await
    }

    async fn end(&mut self, lease: &Lease, outcome: LeaseOutcome) -> Result<(), WorkerError> {
        let outcome = v1::LeaseOutcome::from(outcome).into();
        let claim = Some(self.claim(lease).into());
        let call = || {
            let mut client = self.coordinator.clone();
            let report = Some(self.activity.report().into());
            async move { client.complete(v1::CompleteRequest { claim, outcome, report }).await }
        };
        let reply = self.config.patience.retry(call).await.map_err(WorkerError::Coordinator)?;
        if !reply.held {
            tracing::debug!(worker = self.config.id.0, lease = lease.id.0, epoch = lease.epoch.0, "lease was over");
        }
        Ok(())
    }
}

/// Loads `policy` if there is one to load, then samples and checks that the answer fits the question.
fn sample(
    sampler: &mut dyn Sampler,
    policy: Option<&Arc<PolicySnapshot>>,
    identity: PolicyIdentity,
    catalog: Digest,
    requests: &[SampleRequest],
) -> Result<Vec<RolloutGroup>, WorkerError> {
    let version = identity.version;
    if let Some(policy) = policy {
        sampler.load(policy).map_err(|source| WorkerError::Load { version, source })?;
    }
    let groups = sampler.sample(version, requests).map_err(|source| {
        let first = requests[0].id;
        WorkerError::Sample { first, version, source }
    })?;
    let got: Vec<u64> = groups.iter().map(|group| group.id.0).collect();
    let expected: Vec<u64> = requests.iter().map(|request| request.id.0).collect();
    if got != expected {
        return Err(WorkerError::WrongGroups { got, expected });
    }
    if let Some(group) = groups.iter().find(|group| (group.version, group.policy) != (version, identity.digest)) {
        let got = PolicyIdentity { version: group.version, digest: group.policy };
        return Err(WorkerError::WrongPolicy { group: group.id, got, expected: identity });
    }
    if let Some(group) = groups.iter().find(|group| group.catalog != catalog) {
        return Err(WorkerError::WrongCatalog { group: group.id, got: group.catalog, expected: catalog });
    }
    Ok(groups)
}

/// A lease in hand, as the coordinator hears of it.
#[derive(Clone)]
struct Holding {
    client: CoordinatorClient<Channel>,
    patience: Patience,
    claim: Claim,
    activity: Arc<Activity>,
}

impl Holding {
    async fn renew(&self) -> Result<v1::RenewReply, Status> {
        let (claim, report) = (Some(self.claim.into()), Some(self.activity.report().into()));
        let mut client = self.client.clone();
        self.patience.once(client.renew(v1::RenewRequest { claim, report })).await
    }

    /// Whether the coordinator still wants the lease from its holder, as far as it can be asked.
    async fn is_held(&self) -> bool {
        !matches!(self.renew().await, Ok(v1::RenewReply { held: false }))
    }
}

/// Renews a lease three times per timeout until dropped. A renewal that fails is tried again at the next beat; a lease that
/// is lost is told to whoever waits for its policy, and not mourned once sampling has begun.
async fn renewals(holding: Holding, timeout: Duration, lost: CancellationToken) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(timeout / 3).await;
        match holding.renew().await {
            Ok(v1::RenewReply { held: true }) => {}
            Ok(v1::RenewReply { held: false }) => {
                lost.cancel();
                std::future::pending().await
            }
            Err(status) => tracing::info!(lease = holding.claim.lease.0, %status, "renewal failed"),
        }
    }
}
