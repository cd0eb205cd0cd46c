//! grpc.health.v1.

use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

/// The state behind `grpc.health.v1.Health`. Service "" stands for the whole server; it is serving
/// from the start unless it is set otherwise.
#[derive(Debug, Clone, Default)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Service "" is serving, no other is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether `service` is serving, and tells the clients that watch it.
    pub async fn set(&self, service: &str, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.reporter.set_service_status(service, status).await;
    }

    pub(crate) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}
