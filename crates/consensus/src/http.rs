//! Health, version and metrics over HTTP, with etcd's paths and answers. They are served on the
//! client ports and those of `--listen-metrics-urls` and `--listen-client-http-urls`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::IntCounterVec;
use serde::Serialize;
use synod_proto::etcd::etcdserverpb::AlarmType;
use synod_runtime::metrics::MetricsError;
use synod_service::health::{Checked, Query, router as checks};

use crate::shared::ServiceContext;
use crate::version;

/// A check of `/livez` or `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
    /// Not in etcd: fails once the process was told to stop.
    Serving,
}

#[derive(Serialize)]
struct Health<'a> {
    health: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Versions<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
    storage: &'a str,
}

/// The routes. Every other path is not found.
pub(crate) fn router(shared: Arc<ServiceContext>) -> Router {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/version", get(versions));
    routes.with_state(Arc::clone(&shared)).merge(checks(shared))
}

/// etcd's older health check: no alarm, a leader, and a read that succeeds.
async fn health(State(shared): State<Arc<ServiceContext>>, RawQuery(query): RawQuery) -> Response {
    let query = Query::parse(query.as_deref());
    let reason = match unhealthy(&shared, &query).await {
        None => {
            shared.metrics.health_success.inc();
            return json(
                StatusCode::OK,
                &Health {
                    health: "true",
                    reason: "",
                },
                "",
            );
        }
        Some(reason) => reason,
    };
    shared.metrics.health_failures.inc();
    tracing::warn!(reason, "health check failed");
    let body = Health {
        health: "false",
        reason: &reason,
    };
    json(StatusCode::SERVICE_UNAVAILABLE, &body, "\n")
}

async fn unhealthy(shared: &ServiceContext, query: &Query) -> Option<String> {
    {
        let roster = shared.view.roster();
        for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
            let name = kind.as_str_name();
            if roster.alarmed(kind) && !query.has("exclude", name) {
                return Some(format!("ALARM {name}"));
            }
        }
    }
    let serializable = query.last("serializable") == Some("true");
    if !serializable && shared.leader().is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    match shared.probe(serializable).await {
        Ok(()) => None,
        Err(error) => Some(format!("RANGE ERROR:{error}")),
    }
}

async fn versions(State(shared): State<Arc<ServiceContext>>) -> Response {
    let roster = shared.view.roster();
    let body = Versions {
        etcdserver: version::ETCD_VERSION,
        etcdcluster: roster.version().unwrap_or("not_decided"),
        storage: version::ETCD_STORAGE_VERSION,
    };
    json(StatusCode::OK, &body, "")
}

impl Checked for ServiceContext {
    type Check = Check;

    const LIVEZ: &'static [Check] = &[Check::SerializableRead];
    const READYZ: &'static [Check] = &[
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
        Check::Serving,
    ];

    fn name(check: Check) -> &'static str {
        match check {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
            Check::Serving => "serving",
        }
    }

    async fn check(&self, check: Check) -> Result<(), String> {
        let failure = match check {
            Check::DataCorruption => {
                let corrupt = self.view.roster().alarmed(AlarmType::Corrupt);
                corrupt.then_some("alarm activated: CORRUPT")
            }
            Check::SerializableRead | Check::LinearizableRead => {
                let probe = self.probe(check == Check::SerializableRead).await;
                return probe.map_err(|error| error.to_string());
            }
            Check::NonLearner => self
                .view
                .is_learner()
                .then_some("rpc not supported for learner"),
            Check::Serving => self.is_stopping().then_some("the server is stopping"),
        };
        failure.map_or(Ok(()), |why| Err(why.to_owned()))
    }

    fn counter(&self) -> &IntCounterVec {
        &self.metrics.health_checks
    }

    fn metrics(&self) -> Result<String, MetricsError> {
        self.metrics.text(&self.sample())
    }
}

fn json<T: Serialize>(status: StatusCode, body: &T, end: &str) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => {
            let kind = HeaderValue::from_static("application/json");
            (status, [(header::CONTENT_TYPE, kind)], text + end).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
