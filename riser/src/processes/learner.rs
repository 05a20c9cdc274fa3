//! The learner as a process of its own.

use super::credentials::Credentials;
use super::{listen, starts};
use crate::output;
use crate::run_folder::RunFolder;
use riser::cluster::{ClusterConfig, Parts};
use riser_core::config::{ClusterSection, HostPort};
use riser_core::digest::Digest;
use riser_core::ids::PolicyVersion;
use riser_learner::Outcome;
use riser_learner::presence::{Presence, Registration};
use riser_proto::call::Patience;
use riser_proto::channel::Channel;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Name of the count of starts.
const STARTS: &str = "learner-starts";

/// How long a coordinator is waited for that need only be told that everything is over.
const GOODBYE: Duration = Duration::from_secs(20);

/// What tells this learner from those before it, and how it reaches the coordinator.
pub(crate) struct Seat {
    cluster: ClusterSection,
    run: Digest,
    incarnation: u64,
    credentials: Credentials,
}

impl Seat {
    /// One more learner of the run in `folder`.
    pub(crate) fn take(cluster: &ClusterSection, run: Digest, folder: &RunFolder) -> anyhow::Result<Self> {
        let credentials = Credentials::of_role(cluster, "learner")?;
        let incarnation = starts::count(&folder.path().join(STARTS))?;
        Ok(Self { cluster: cluster.clone(), run, incarnation, credentials })
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
        let (incarnation, run) = (self.incarnation, self.run.short());
        output::note(format!(
            "learner {incarnation} of run {run} listens on {bound}, workers reach it at {advertised}"
        ));
        let mut config = settings.learner;
        config.patience = Patience::lasting(self.cluster.patience());
        config.presence = Presence {
            incarnation,
            registration: Some(self.registration(&advertised)),
            access: self.credentials.access(self.run),
            max_rejections: self.cluster.max_rejections,
        };
        let Parts { tree, trainer, events, .. } = parts;
        let learner = riser_learner::run(config, trainer, tree, self.coordinator()?, incoming, events, stop);
        Ok(Box::pin(learner).await?)
    }

    /// Tells the coordinator that the run has ended before; nothing is lost if there is none any more.
    pub(crate) fn say_goodbye(&self, last: PolicyVersion) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Nobody will connect, so any address does.
        let registration = self.registration(&HostPort::from(self.cluster.learner.listen));
        let told = runtime.block_on(async {
            let patience = Patience::lasting(GOODBYE);
            anyhow::Ok(riser_learner::announce(self.coordinator()?, patience, &registration, last).await)
        })?;
        if let Err(status) = told {
            output::note(format!("no coordinator could be told that the run is over: {}", status.message()));
        }
        Ok(())
    }

    fn registration(&self, address: &HostPort) -> Registration {
        Registration {
            address: address.to_string(),
            incarnation: self.incarnation,
            heartbeat: Duration::from_secs(self.cluster.heartbeat),
        }
    }

    fn coordinator(&self) -> anyhow::Result<Channel> {
        let channel = self.credentials.connect(&self.cluster.coordinator_address())?;
        Ok(Channel::from(channel).with_pass(self.credentials.pass().with_run(self.run)))
    }
}
