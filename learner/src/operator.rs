//! The gRPC face of the learner for whoever runs the run.

use crate::catalogs::{ChangeError, Changes};
use riser_core::catalog::{change::ChangeExtent, plan::Era};
use riser_proto::{
    catalog,
    v1::{self, operator_server::Operator},
};
use tonic::{Request, Response, Status};

/// Translates between messages and what can be changed.
#[derive(Debug)]
pub(crate) struct OperatorService {
    changes: Changes,
}

impl OperatorService {
    pub(crate) fn new(changes: Changes) -> Self {
        Self { changes }
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
        let (era, extent) = self.changes.change(&folder, first_batch).await.map_err(refused)?;
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
