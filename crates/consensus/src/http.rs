//! Health, version and metrics over HTTP, with etcd's paths and answers. On the client port, and on
//! the ports of `--listen-metrics-urls` and `--listen-client-http-urls`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use synod_proto::etcd::etcdserverpb::AlarmType;
use synod_runtime::metrics::TEXT_CONTENT_TYPE;

use crate::shared::Shared;
use crate::version;

/// One thing that `/livez` or `/readyz` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
    /// Ours: fails from the moment when the process was asked to stop.
    Serving,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
    Check::Serving,
];

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

/// The routes; every other path is not found.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new()
        .route("/health", get(health))
        .route("/version", get(versions))
        .route("/metrics", get(metrics));
    for (endpoint, checks) in [("livez", LIVEZ), ("readyz", READYZ)] {
        let all = move |State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery| async move {
            run_checks(&shared, endpoint, checks, &Query::parse(query.as_deref())).await
        };
        router = router.route(&format!("/{endpoint}"), get(all));
        for (place, check) in checks.iter().enumerate() {
            let one = move |State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery| async move {
                let mut query = Query::parse(query.as_deref());
                query.exclude.clear();
                run_checks(&shared, endpoint, &checks[place..=place], &query).await
            };
            router = router.route(&format!("/{endpoint}/{}", check.name()), get(one));
        }
    }
    router.with_state(shared)
}

/// etcd's older health check: alarms, a leader, a read.
async fn health(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
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

async fn unhealthy(shared: &Shared, query: &Query) -> Option<String> {
    {
        let roster = shared.view.roster();
        for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
            let name = kind.as_str_name();
            if roster.alarmed(kind) && !query.exclude.contains(name) {
                return Some(format!("ALARM {name}"));
            }
        }
    }
    if !query.serializable && shared.leader().is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    match shared.probe(query.serializable).await {
        Ok(()) => None,
        Err(error) => Some(format!("RANGE ERROR:{error}")),
    }
}

async fn versions(State(shared): State<Arc<Shared>>) -> Response {
    let roster = shared.view.roster();
    let body = Versions {
        etcdserver: version::ETCD_VERSION,
        etcdcluster: roster.version().unwrap_or("not_decided"),
        storage: version::ETCD_STORAGE_VERSION,
    };
    json(StatusCode::OK, &body, "")
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.text(&shared.sample()) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn run_checks(
    shared: &Shared,
    endpoint: &'static str,
    checks: &[Check],
    query: &Query,
) -> Response {
    let mut report = String::new();
    let mut healthy = true;
    for check in checks {
        let name = check.name();
        if query.exclude.contains(name) {
            continue;
        }
        let failure = check.run(shared).await;
        let status = if failure.is_none() {
            "success"
        } else {
            "error"
        };
        shared
            .metrics
            .health_checks
            .with_label_values(&[endpoint, name, status])
            .inc();
        // Writing to a string can't fail.
        let _ = match failure {
            None => writeln!(report, "[+]{name} ok"),
            Some(why) => {
                healthy = false;
                writeln!(report, "[-]{name} failed: {why}")
            }
        };
    }
    if !healthy {
        tracing::warn!(endpoint, report, "health check failed");
        return plain(StatusCode::SERVICE_UNAVAILABLE, report + "\n");
    }
    if !query.verbose {
        report.clear();
    }
    plain(StatusCode::OK, report + "ok\n")
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
            Self::Serving => "serving",
        }
    }

    /// Why it fails, if it does.
    async fn run(self, shared: &Shared) -> Option<String> {
        match self {
            Self::DataCorruption => shared
                .view
                .roster()
                .alarmed(AlarmType::Corrupt)
                .then(|| "alarm activated: CORRUPT".to_owned()),
            Self::SerializableRead => shared.probe(true).await.err().map(|e| e.to_string()),
            Self::LinearizableRead => shared.probe(false).await.err().map(|e| e.to_string()),
            Self::NonLearner => shared
                .view
                .is_learner()
                .then(|| "rpc not supported for learner".to_owned()),
            Self::Serving => shared
                .is_stopping()
                .then(|| "the server is stopping".to_owned()),
        }
    }
}

/// The parameters of a health request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    exclude: BTreeSet<String>,
    verbose: bool,
    serializable: bool,
}

impl Query {
    fn parse(text: Option<&str>) -> Self {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            match &*name {
                "exclude" if !value.is_empty() => {
                    query.exclude.insert(value.into_owned());
                }
                "verbose" => query.verbose = true,
                "serializable" => query.serializable = value == "true",
                _ => {}
            }
        }
        query
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

fn plain(status: StatusCode, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_go_reads_them() {
        let query = Query::parse(Some(
            "verbose&exclude=NOSPACE&exclude=a%20b&exclude=&serializable=true",
        ));
        assert!(query.verbose && query.serializable);
        assert_eq!(query.exclude.len(), 2);
        assert!(query.exclude.contains("a b"));
        assert_eq!(Query::parse(None), Query::default());
    }
}
