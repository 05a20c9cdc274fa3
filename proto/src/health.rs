//! The gRPC health service of both servers: serving once the role can do its part, as probes expect.

use tonic::server::NamedService;
use tonic_health::{
    pb::health_server::{Health as HealthService, HealthServer},
    server::{HealthReporter, health_reporter},
};

/// Says how a role is.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    name: &'static str,
}

/// A service that says "not serving" about the server as a whole and about `S`, and the way to change that.
///
/// It asks for no token: probes have none.
pub async fn health<S: NamedService>() -> (Health, HealthServer<impl HealthService>) {
    let (reporter, service) = health_reporter();
    let health = Health { reporter, name: S::NAME };
    health.set(tonic_health::ServingStatus::NotServing).await;
    (health, service)
}

impl Health {
    /// The role is ready.
    pub async fn serving(&self) {
        self.set(tonic_health::ServingStatus::Serving).await;
    }

    async fn set(&self, status: tonic_health::ServingStatus) {
        // The empty name is the server as a whole.
        self.reporter.set_service_status("", status).await;
        self.reporter.set_service_status(self.name, status).await;
    }
}
