//! The actor that turns leases into groups.
//!
//! | | |
//! |---|---|
//! | takes | one lease at a time from the coordinator; policies from the shelf |
//! | waits for | work, the policy of the leased version, the sampler, the learner's acknowledgements |
//! | gives | groups to the learner, the end of the lease to the coordinator |
//!
//! One lease is one call of the sampler. While it runs, the lease is renewed; a lease that is lost meanwhile is delivered
//! all the same, because in lockstep whoever samples a group gets the same bits and the learner counts the first copy.

use crate::{
    WorkerConfig, WorkerError,
    policy_shelf::{Lookup, PolicyShelf},
    sampler::Sampler,
    submission,
};
use riser_core::{
    digest::Digest,
    group::RolloutGroup,
    ids::PolicyVersion,
    lease::{Lease, SampleRequest},
    snapshot::PolicySnapshot,
};
use riser_proto::{
    lease::{LeaseOutcome, LeaseReply, millis},
    transport::{self, Channel},
    v1::{self, coordinator_client::CoordinatorClient},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
}

/// Owns the sampler.
pub(crate) struct LeaseLoop {
    config: WorkerConfig,
    coordinator: CoordinatorClient<Channel>,
    learner: Channel,
    shelf: watch::Receiver<PolicyShelf>,
    /// At home between calls, away on a blocking thread during one.
    sampler: Option<Box<dyn Sampler>>,
    /// With its digest, because a learner that was started again may publish a version number anew.
    loaded: Option<(PolicyVersion, Digest)>,
    drain: CancellationToken,
}

/// What became of a lease in hand.
enum Delivery {
    /// The learner has every group.
    Done,
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
        shelf: watch::Receiver<PolicyShelf>,
        sampler: Box<dyn Sampler>,
        drain: CancellationToken,
    ) -> Self {
        let coordinator = transport::coordinator_client(coordinator);
        Self { config, coordinator, learner, shelf, sampler: Some(sampler), loaded: None, drain }
    }

    /// Works until the coordinator says that the run is over, or until it is to drain.
    pub(crate) async fn run(mut self, summary: &mut Summary) -> Result<(), WorkerError> {
        let drain = self.drain.clone();
        while !drain.is_cancelled() {
            // A question that is dropped is one that the coordinator answers no more: it gives the work to someone else.
            let reply = tokio::select! {
                biased;
                reply = self.ask() => reply?,
                () = drain.cancelled() => return Ok(()),
            };
            match reply {
                LeaseReply::Done => return Ok(()),
                LeaseReply::Wait => {}
                LeaseReply::Work(lease) => self.work(lease, summary).await?,
            }
        }
        Ok(())
    }

    async fn ask(&mut self) -> Result<LeaseReply, WorkerError> {
        let wait_millis = millis(self.config.lease_wait);
        let request = v1::LeaseRequest { worker: self.config.id.0, wait_millis };
        let client = &self.coordinator;
        let call = || {
            let mut client = client.clone();
            async move { client.lease(request).await }
        };
        let reply = self.config.patience.retry(call).await.map_err(WorkerError::Coordinator)?;
        LeaseReply::try_from(reply).map_err(|source| WorkerError::Wire { peer: "coordinator", source })
    }

    async fn work(&mut self, lease: Lease, summary: &mut Summary) -> Result<(), WorkerError> {
        let worker = self.config.id.0;
        tracing::debug!(worker, lease = lease.id.0, epoch = lease.epoch.0, version = lease.version.0, "lease taken");
        let (coordinator, patience) = (self.coordinator.clone(), self.config.patience);
        let lost = CancellationToken::new();
        let keep_alive = renewals(coordinator, patience, &lease, lost.clone());
        let delivered = tokio::select! {
            delivered = self.deliver(&lease, &lost) => delivered,
            never = keep_alive => match never {},
        };
        match delivered {
            Ok(Delivery::Done) => {
                self.end(&lease, LeaseOutcome::Done).await?;
                summary.leases += 1;
                summary.groups += lease.requests.len() as u64;
            }
            // Its batch has been trained on, as the coordinator is about to hear. Giving the lease back would only bring it
            // here again.
            Ok(Delivery::Overtaken) => summary.overtaken += 1,
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
        let policy = match self.policy(lease, lost).await {
            Ok(policy) => policy,
            Err(without) => return Ok(without),
        };
        let groups = self.sample(policy, lease.requests.clone()).await?;
        let submitted = submission::submit(&self.config, self.learner.clone(), groups).await;
        if let Err(WorkerError::Rejected { group, reason }) = &submitted
            && !self.is_held(lease).await
        {
            // A learner that was started again at an earlier version does not know of this batch yet.
            tracing::info!(worker = self.config.id.0, group, reason, "learner wants no group of this lease");
            return Ok(Delivery::Overtaken);
        }
        submitted.map(|()| Delivery::Done)
    }

    /// Waits for the leased version; the error says what becomes of the lease without it.
    async fn policy(&mut self, lease: &Lease, lost: &CancellationToken) -> Result<Arc<PolicySnapshot>, Delivery> {
        let drain = self.drain.clone();
        let mut incarnation = self.shelf.borrow().incarnation();
        loop {
            let (lookup, now) = {
                let shelf = self.shelf.borrow_and_update();
                (shelf.get(lease.version), shelf.incarnation())
            };
            let is_gone = match lookup {
                Lookup::Here(policy) => return Ok(policy),
                Lookup::Gone => true,
                Lookup::NotYet => false,
            };
            // Either the lease is from before the learner was started again, or the shelf is.
            let in_doubt = is_gone || std::mem::replace(&mut incarnation, now) != now;
            if in_doubt && !self.is_held(lease).await {
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

    /// Whether the coordinator still wants this lease from us, as far as it can be asked.
    fn is_held(&self, lease: &Lease) -> impl Future<Output = bool> + use<> {
        let (mut client, patience) = (self.coordinator.clone(), self.config.patience);
        let request = v1::RenewRequest { lease: lease.id.0, epoch: lease.epoch.0 };
        async move { !matches!(patience.once(client.renew(request)).await, Ok(v1::RenewReply { held: false })) }
    }

    /// Lends the sampler to a blocking thread.
    async fn sample(
        &mut self,
        policy: Arc<PolicySnapshot>,
        requests: Vec<SampleRequest>,
    ) -> Result<Vec<RolloutGroup>, WorkerError> {
        let mut sampler = self.sampler.take().expect("the sampler comes home unless it panicked, which ends the loop");
        let version = policy.version();
        let policy_id = (version, policy.digest());
        let load = self.loaded != Some(policy_id);
        // Until the load is known to have succeeded, nothing is known about the sampler.
        self.loaded = None;
        let lent = tokio::task::spawn_blocking(move || {
            let groups = sample(sampler.as_mut(), load.then_some(&policy), version, &requests);
            (sampler, groups)
        });
        match lent.await {
            Ok((sampler, groups)) => {
                self.sampler = Some(sampler);
                let groups = groups?;
                self.loaded = Some(policy_id);
                Ok(groups)
            }
            Err(error) => Err(WorkerError::panicked(error)),
        }
    }

    async fn end(&mut self, lease: &Lease, outcome: LeaseOutcome) -> Result<(), WorkerError> {
        let request = v1::CompleteRequest {
            lease: lease.id.0,
            epoch: lease.epoch.0,
            outcome: v1::LeaseOutcome::from(outcome).into(),
        };
        let client = &self.coordinator;
        let call = || {
            let mut client = client.clone();
            async move { client.complete(request).await }
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
    version: PolicyVersion,
    requests: &[SampleRequest],
) -> Result<Vec<RolloutGroup>, WorkerError> {
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
    Ok(groups)
}

/// Renews a lease three times per timeout until dropped. A renewal that fails is tried again at the next beat; a lease that
/// is lost is told to whoever waits for its policy, and not mourned once sampling has begun.
async fn renewals(
    client: CoordinatorClient<Channel>,
    patience: riser_proto::call::Patience,
    lease: &Lease,
    lost: CancellationToken,
) -> std::convert::Infallible {
    let request = v1::RenewRequest { lease: lease.id.0, epoch: lease.epoch.0 };
    loop {
        tokio::time::sleep(lease.timeout / 3).await;
        let mut client = client.clone();
        match patience.once(client.renew(request)).await {
            Ok(v1::RenewReply { held: true }) => {}
            Ok(v1::RenewReply { held: false }) => {
                lost.cancel();
                std::future::pending().await
            }
            Err(status) => tracing::info!(lease = request.lease, %status, "renewal failed"),
        }
    }
}
