//! Health and metrics over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use prometheus::IntCounterVec;
use synod_runtime::metrics::MetricsError;
use synod_service::health::{Checked, router as checks};

use crate::hub::Hub;
use crate::metrics::Metrics;

/// A check of `/livez` or `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The pod is in contact with the log.
    Contact,
    /// Fails once the process was told to stop.
    Serving,
}

/// What the checks look at.
pub(crate) struct Checks {
    hub: Arc<Hub>,
    metrics: Metrics,
    is_stopping: AtomicBool,
}

impl Checks {
    pub(crate) fn new(hub: Arc<Hub>, metrics: Metrics) -> Self {
        Self {
            hub,
            metrics,
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Fails readiness checks from now on.
    pub(crate) fn stop_serving(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

/// The routes. Every other path is not found.
pub(crate) fn router(service: Arc<Checks>) -> Router {
    checks(service)
}

impl Checked for Checks {
    type Check = Check;

    const LIVEZ: &'static [Check] = &[];
    const READYZ: &'static [Check] = &[Check::Contact, Check::Serving];

    fn name(check: Check) -> &'static str {
        match check {
            Check::Contact => "contact",
            Check::Serving => "serving",
        }
    }

    async fn check(&self, check: Check) -> Result<(), String> {
        let failure = match check {
            Check::Contact => (!self.hub.is_serving()).then_some(
                "no contact with the pod that orders commands, or with the etcd endpoint",
            ),
            Check::Serving => self
                .is_stopping
                .load(Ordering::Relaxed)
                .then_some("the pod is stopping"),
        };
        failure.map_or(Ok(()), |why| Err(why.to_owned()))
    }

    fn counter(&self) -> &IntCounterVec {
        &self.metrics.health_checks
    }

    fn metrics(&self) -> Result<String, MetricsError> {
        self.metrics.text(&self.hub.facts())
    }
}
