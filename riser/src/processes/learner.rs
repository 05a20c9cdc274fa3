//! The learner as a process of its own.

use super::credentials::Credentials;
use super::{listen, refusal};
use crate::{metrics_endpoint, output, recovery};
use riser::cluster::{ClusterConfig, ClusterError, Parts};
use riser::run_database::RunFacts;
use riser_core::catalog::plan::CatalogPlan;
use riser_core::config::ClusterSection;
use riser_core::digest::Digest;
use riser_core::ids::Incarnation;
use riser_learner::presence::Presence;
use riser_learner::{LearnerError, Outcome};
use riser_proto::access::role::Role;
use riser_proto::call::Patience;
use riser_proto::channel::Channel;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a coordinator is waited for that need only be told that everything is over.
const GOODBYE: Duration = Duration::from_secs(20);

/// The learner's place in the cluster: whom it lets in, and how it reaches the coordinator.
pub(crate) struct Seat {
    cluster: ClusterSection,
    run: Digest,
    credentials: Credentials,
}

impl Seat {
    /// The seat of a learner of `run`.
    pub(crate) fn take(cluster: &ClusterSection, run: Digest) -> anyhow::Result<Self> {
        metrics_endpoint::introduce("learner", run);
        let credentials = Credentials::of_role(cluster, Role::Learner)?;
        Ok(Self { cluster: cluster.clone(), run, credentials })
    }

    /// Trains from what workers send, until the run is over or `stop`.
    pub(crate) async fn train(
        &self,
        settings: ClusterConfig,
        parts: Parts,
        stop: CancellationToken,
    ) -> anyhow::Result<Outcome> {
        let (incoming, bound) = listen(self.cluster.learner.listen, "cluster.learner.listen")?;
        let advertised = self.cluster.learner.advertise.clone().unwrap_or(bound.clone());
        let mut config = settings.learner;
        let (incarnation, run) = (config.incarnation, self.run.short());
        output::note(format!(
            "learner {incarnation} of run {run} listens on {bound}, workers reach it at {advertised}"
        ));
        config.patience = Patience::lasting(self.cluster.patience());
        config.report_every = Duration::from_secs(self.cluster.heartbeat);
        config.presence = Presence {
            address: Some(advertised.to_string()),
            access: self.credentials.access(self.run),
            max_rejections: self.cluster.max_rejections,
        };
        let Parts { tree, trainer, events, .. } = parts;
        let learner = riser_learner::run(config, trainer, tree, self.coordinator()?, incoming, events, stop);
        match Box::pin(learner).await {
            Err(LearnerError::Coordinator(status)) => {
                let error = ClusterError::Learner(LearnerError::Coordinator(status.clone()));
                Err(refusal::with_remedy(error.into(), &status))
            }
            ended => recovery::explained(ended.map_err(ClusterError::Learner)),
        }
    }

    /// The learner that the coordinator knows from before, perhaps from another host; `None` also if there is no coordinator yet.
    pub(crate) fn predecessor(&self) -> anyhow::Result<Option<Incarnation>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { Ok(riser_learner::predecessor(self.coordinator()?).await) })
    }

    /// Tells the coordinator that the run has ended before; nothing is lost if there is none any more.
    pub(crate) fn say_goodbye(
        &self,
        incarnation: Incarnation,
        facts: &RunFacts,
        catalogs: CatalogPlan,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let RunFacts { pacing, total_batches } = *facts;
        let told = runtime.block_on(async {
            let (coordinator, patience) = (self.coordinator()?, Patience::lasting(GOODBYE));
            anyhow::Ok(
                riser_learner::announce_end(incarnation, pacing, total_batches, catalogs, coordinator, patience).await,
            )
        })?;
        if let Err(status) = told {
            output::note(format!("no coordinator could be told that the run is over: {}", status.message()));
        }
        Ok(())
    }

    fn coordinator(&self) -> anyhow::Result<Channel> {
        let channel = self.credentials.connect(&self.cluster.coordinator_address(), Role::Coordinator)?;
        Ok(Channel::from(channel).with_pass(self.credentials.pass().with_run(self.run)))
    }
}
