//! Hands out the catalog: every answer is a slice of memory that is there already.

use crate::catalogs::Shelf;
use riser_proto::{
    catalog::{self, CatalogFile},
    v1::{self, catalog_server::Catalog},
};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// The gRPC face of the catalogs.
#[derive(Debug, Clone)]
pub struct CatalogService {
    shelf: watch::Receiver<Shelf>,
}

impl CatalogService {
    /// A face for `file`, and for nothing else ever.
    pub fn new(file: CatalogFile) -> Self {
        let current = file.manifest().catalog();
        Self::following(watch::channel(Shelf { current, files: BTreeMap::from([(current, file)]) }).1)
    }

    /// A face for whatever is on the shelf.
    pub(crate) fn following(shelf: watch::Receiver<Shelf>) -> Self {
        Self { shelf }
    }
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    async fn describe(
        &self,
        request: Request<v1::DescribeCatalogRequest>,
    ) -> Result<Response<v1::CatalogManifest>, Status> {
        let asked = catalog::described(request.get_ref())?;
        let shelf = self.shelf.borrow();
        let wanted = asked.unwrap_or(shelf.current);
        match shelf.files.get(&wanted) {
            Some(file) => Ok(Response::new(file.manifest().into())),
            // A coordinator that was started again may be about to open it.
            None => Err(Status::unavailable(format!("catalog {} is not here, or not yet", wanted.short()))),
        }
    }

    async fn fetch(&self, request: Request<v1::FetchChunkRequest>) -> Result<Response<v1::CatalogChunk>, Status> {
        let shelf = self.shelf.borrow();
        for file in shelf.files.values() {
            if let Some(data) = file.chunk(request.get_ref())? {
                return Ok(Response::new(v1::CatalogChunk { data }));
            }
        }
        // It may be of a catalog that a coordinator before this one had open.
        Err(Status::unavailable("the chunk is of no catalog that is here, or not yet"))
    }
}
