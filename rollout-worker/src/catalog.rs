//! Fetching the catalog.

use crate::{WorkerConfig, WorkerError};
use backon::Retryable;
use riser_core::prefix_tree::PrefixTree;
use riser_proto::{
    call::{is_transient, within},
    catalog::CatalogAssembler,
    transport::{self, Channel},
    v1,
};
use tonic::Status;

/// Asks the coordinator for the prefix tree until it arrives whole.
pub(crate) async fn fetch(config: &WorkerConfig, coordinator: Channel) -> Result<PrefixTree, WorkerError> {
    let client = transport::coordinator_client(coordinator);
    let attempt = || {
        let mut client = client.clone();
        async move {
            let deadline = config.patience.deadline;
            let call = client.fetch_catalog(v1::FetchCatalogRequest {});
            let mut chunks = within(deadline, call).await.map_err(WorkerError::Coordinator)?.into_inner();
            let mut assembler = CatalogAssembler::new(config.max_catalog_bytes);
            while let Some(chunk) = within(deadline, chunks.message()).await.map_err(WorkerError::Coordinator)? {
                let wire = |source| WorkerError::Wire { peer: "coordinator", source };
                if let Some(tree) = assembler.push(chunk).map_err(wire)? {
                    return Ok(tree);
                }
            }
            Err(WorkerError::Coordinator(Status::unavailable("the catalog ended early")))
        }
    };
    let transient = |error: &WorkerError| matches!(error, WorkerError::Coordinator(status) if is_transient(status));
    attempt.retry(config.patience.pauses()).when(transient).await
}
