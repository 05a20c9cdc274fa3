//! Hands out the catalog: every answer is a slice of memory that is there already.

use riser_proto::{
    catalog::CatalogFile,
    v1::{self, catalog_server::Catalog},
};
use tonic::{Request, Response, Status};

/// The gRPC face of a catalog.
#[derive(Debug, Clone)]
pub struct CatalogService {
    file: CatalogFile,
}

impl CatalogService {
    /// A face for `file`.
    pub fn new(file: CatalogFile) -> Self {
        Self { file }
    }
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    async fn describe(
        &self,
        _request: Request<v1::DescribeCatalogRequest>,
    ) -> Result<Response<v1::CatalogManifest>, Status> {
        Ok(Response::new(self.file.manifest().into()))
    }

    async fn fetch(&self, request: Request<v1::FetchChunkRequest>) -> Result<Response<v1::CatalogChunk>, Status> {
        match self.file.chunk(request.get_ref())? {
            Some(data) => Ok(Response::new(v1::CatalogChunk { data })),
            None => Err(Status::not_found("the catalog of this run has no such chunk")),
        }
    }
}
