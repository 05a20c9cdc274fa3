//! The actor that tells the coordinator where the learner stands, so that the step loop does not have to wait for it.
//!
//! | | |
//! |---|---|
//! | takes | the publisher's shelf, of which it only needs the newest version; the batcher's position; what the learner is at |
//! | waits for | a new version, a batch taken out, a changed plan of catalogs, or `report_every` of silence |
//! | gives | `Advance` calls, each with the position of that moment, so that a lost one is made up for by the next |
//!
//! The repetition is for a coordinator that was started again: it knows nothing until it is told, not even where the learner
//! is.

use crate::{
    activity::Activity,
    batcher::{BatcherHandle, Position},
    meter,
    publisher::Shelf,
};
use riser_core::{
    catalog::plan::CatalogPlan,
    ids::{Incarnation, PolicyVersion},
    learner_report::LearnerReport,
    pacing::Pacing,
};
use riser_proto::{
    access::Refusals,
    call::{Patience, within},
    egress::EgressLedger,
    health::Health,
    transport::{self, Channel},
    v1,
};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

/// How long a coordinator that is there may take to say which learner it knows.
const GREETING: Duration = Duration::from_secs(5);

/// What is told, to whom, how often.
pub(crate) struct Notifier {
    pub(crate) learner: Incarnation,
    pub(crate) start: u64,
    pub(crate) address: Option<String>,
    pub(crate) shelf: watch::Receiver<Shelf>,
    pub(crate) batches: BatcherHandle,
    pub(crate) coordinator: Channel,
    pub(crate) patience: Patience,
    pub(crate) report_every: Duration,
    pub(crate) health: Health,
    pub(crate) activity: Activity,
    pub(crate) egress: EgressLedger,
    pub(crate) refusals: Refusals,
}

impl Notifier {
    /// Reports until the publisher is gone and the last version has been reported.
    pub(crate) async fn run(mut self) -> Result<(), Status> {
        let (mut taken, mut catalogs) = (self.batches.taken(), self.batches.catalogs());
        let mut is_known = false;
        loop {
            let news = tokio::select! {
                published = self.shelf.changed() => published.is_ok(),
                Ok(()) = taken.changed() => true,
                Ok(()) = catalogs.changed() => true,
                () = tokio::time::sleep(self.report_every) => true,
            };
            meter::egress(&self.egress.read());
            if !news {
                return Ok(());
            }
            let newest = self.shelf.borrow_and_update().last().map(|snapshot| snapshot.version());
            let Some(version) = newest else { continue };
            self.report(version).await?;
            if !std::mem::replace(&mut is_known, true) {
                self.health.serving().await;
            }
            tracing::debug!(version = version.0, "coordinator knows the version");
        }
    }

    async fn report(&self, version: PolicyVersion) -> Result<(), Status> {
        let client = transport::coordinator_client(self.coordinator.clone());
        let call = || {
            let mut client = client.clone();
            async move {
                // Asked anew at every attempt: a position that waited for a coordinator is an old one.
                let position = self.batches.position().await;
                let position = position.map_err(|stopped| Status::unavailable(stopped.to_string()))?;
                let Position { taken, received, catalogs } = position;
                let report =
                    LearnerReport { learner: self.learner, start: self.start, version, taken, received, catalogs };
                let address = self.address.clone().unwrap_or_default();
                let mut activity = self.activity.report();
                activity.troubles.extend(self.refusals.list());
                let activity = Some(activity.into());
                client.advance(v1::AdvanceRequest { address, activity, ..report.into() }).await
            }
        };
        self.patience.retry(call).await.map(drop)
    }
}

/// The learner that the coordinator knows from before, perhaps from another host; `None` also if there is no coordinator yet.
pub async fn predecessor(coordinator: impl Into<Channel>) -> Option<Incarnation> {
    let mut client = transport::coordinator_client(coordinator);
    let asked = within(GREETING, client.locate(v1::LocateRequest { known: 0, wait_millis: 0 })).await;
    let place = asked.ok()?.into_inner().learner?;
    Some(Incarnation(place.incarnation))
}

/// Tells the coordinator that all `total_batches` of a run with these `catalogs` have been trained, in place of a learner that has ended.
///
/// # Errors
/// The last status, when patience ends or the coordinator disagrees.
pub async fn announce_end(
    learner: Incarnation,
    pacing: Pacing,
    total_batches: u64,
    catalogs: CatalogPlan,
    coordinator: impl Into<Channel>,
    patience: Patience,
) -> Result<(), Status> {
    let request = v1::AdvanceRequest::from(LearnerReport::at_the_end(learner, pacing, total_batches, catalogs));
    let client = transport::coordinator_client(coordinator);
    let call = || {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.advance(request).await }
    };
    patience.retry(call).await.map(drop)
}
