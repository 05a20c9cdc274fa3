//! A change of catalog while things go wrong: an operator asks for it until he is answered.

use super::{
    disk::CrashingDisk, host::Host, network::Network, roles::COORDINATOR_PORT, trace::Trace, witness::Witness,
};
use crate::{hash_policy, scenario};
use riser_coordinator::{catalogs::OpenedCatalog as ToHandOut, prompts::SourceError};
use riser_core::catalog::{
    change::ChangeExtent,
    plan::{CatalogPlan, Era},
};
use riser_learner::catalogs::{CatalogError, OpenedCatalog as ToTrainOn};
use riser_proto::{catalog::CatalogFile, transport, v1};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::{Code, Status};

/// Number of the catalog that takes over.
pub(crate) const NEXT: u32 = 1;

const FOLDER: &str = "/catalogs/next";

/// How long an answer may take, and a pause between two questions.
const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);

/// What is asked for, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) at: Duration,
    pub(crate) first_batch: u64,
}

/// The catalog that takes over, and the disk that the plan is written to.
#[derive(Debug)]
pub(crate) struct NextCatalog(pub(crate) Arc<CrashingDisk>);

impl riser_learner::catalogs::CatalogSource for NextCatalog {
    fn open(&self, _folder: &Path) -> Result<ToTrainOn, CatalogError> {
        let extent = ChangeExtent { added: 60, removed: 60, skipped: 0 };
        Ok(ToTrainOn { tree: hash_policy::tree_of(NEXT), extent })
    }

    fn keep(&self, plan: &CatalogPlan, _next: u64) -> Result<(), CatalogError> {
        Ok(self.0.keep_plan(plan)?)
    }
}

impl riser_coordinator::catalogs::CatalogSource for NextCatalog {
    fn open(&self, _era: &Era) -> Result<ToHandOut, SourceError> {
        Ok(ToHandOut { file: CatalogFile::new(&hash_policy::tree_of(NEXT)), prompts: scenario::prompts() })
    }
}

/// Asks from the host of the first worker until there is an answer.
pub(crate) async fn ask(change: Change, network: Network, witness: Arc<Witness>, trace: Trace) {
    tokio::time::sleep(change.at).await;
    loop {
        match timeout(DEADLINE, attempt(change, &network)).await {
            Ok(Ok(())) => {
                trace.note("catalog changed", change.first_batch);
                return witness.answered(true);
            }
            Ok(Err(status)) if status.code() == Code::FailedPrecondition && !status.message().starts_with("caller") => {
                let is_made = status.message().contains(" already, from batch ");
                trace.note(if is_made { "catalog changed" } else { "change refused" }, status.message());
                return witness.answered(is_made);
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn attempt(change: Change, network: &Network) -> Result<(), Status> {
    let desk = Host(2);
    let mut watch = transport::watch_client(network.channel(desk, Host::COORDINATOR, COORDINATOR_PORT));
    let status = watch.status(v1::StatusRequest {}).await?.into_inner();
    let address = status.learner.and_then(|learner| learner.address);
    let address = address.ok_or_else(|| Status::unavailable("there is no learner yet"))?;
    let (host, port) = address.rsplit_once(':').expect("learners say where they listen");
    let port = port.parse().expect("learners say where they listen");
    let mut operator = transport::operator_client(network.channel(desk, Host::named(host), port));
    let request = v1::ChangeCatalogRequest { folder: FOLDER.to_owned(), first_batch: Some(change.first_batch) };
    operator.change_catalog(request).await.map(drop)
}
