//! The gRPC health service of both servers: serving once the role can do its part, as probes expect.

use crate::{call::within, channel::Channel};
use std::time::Duration;
use tonic::{Status, server::NamedService};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest,
        health_client::HealthClient,
        health_server::{Health as HealthService, HealthServer},
    },
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
    health.set(ServingStatus::NotServing).await;
    (health, service)
}

impl Health {
    /// The role is ready.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    async fn set(&self, status: ServingStatus) {
        // The empty name is the server as a whole.
        self.reporter.set_service_status("", status).await;
        self.reporter.set_service_status(self.name, status).await;
    }
}

/// Whether the server at the other end says that it can do its part.
///
/// # Errors
/// Its status if it gives another answer; `DEADLINE_EXCEEDED` if it gives none within `deadline`.
pub async fn is_serving(server: Channel, deadline: Duration) -> Result<bool, Status> {
    let mut client = HealthClient::new(server);
    let reply = within(deadline, client.check(HealthCheckRequest::default())).await?.into_inner();
    Ok(reply.status == ServingStatus::Serving as i32)
}
