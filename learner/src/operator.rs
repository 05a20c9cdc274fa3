//! The gRPC face of the learner for whoever runs the run.

use crate::catalogs::{ChangeError, Changes};
use riser_core::catalog::{change::ChangeExtent, plan::Era};
use riser_proto::{
    catalog,
    v1::{self, operator_server::Operator},
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Translates between messages and what can be changed.
#[derive(Debug)]
pub(crate) struct OperatorService {
    changes: Arc<Changes>,
}

impl OperatorService {
    pub(crate) fn new(changes: Changes) -> Self {
        Self { changes: Arc::new(changes) }
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn change_catalog(
        &self,
        request: Request<v1::ChangeCatalogRequest>,
    ) -> Result<Response<v1::ChangeCatalogReply>, Status> {
        let v1::ChangeCatalogRequest { folder, first_batch } = request.into_inner();
        let folder = catalog::path("folder", folder)?;
        // A task of its own: a caller that goes away meanwhile must not leave half a change.
        let changes = self.changes.clone();
        let change = tokio::spawn(async move { changes.change(&folder, first_batch).await });
        let (era, extent) = change.await.map_err(|error| Status::internal(error.to_string()))?.map_err(refused)?;
        let Era { first_batch, catalog, .. } = era;
        let ChangeExtent { added, removed, skipped } = extent;
        let catalog = catalog.as_bytes().to_vec().into();
        Ok(Response::new(v1::ChangeCatalogReply { first_batch, catalog, added, removed, skipped }))
    }
}

fn refused(error: ChangeError) -> Status {
    let message = error.to_string();
    match error {
        ChangeError::Stopped(_) => Status::unavailable(message),
        ChangeError::Unkept(_) => Status::internal(message),
        ChangeError::Fixed | ChangeError::Folder { .. } | ChangeError::Plan(_) => Status::failed_precondition(message),
    }
}
