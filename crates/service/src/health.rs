//! Liveness, readiness and metrics over HTTP: `/livez`, `/readyz`, single checks such as
//! `/readyz/serving`, and `/metrics`.
//!
//! The answer is 200 with `ok`, or 503 with a report of all checks. `?verbose` adds the report to
//! the former too; `?exclude=NAME` skips a check.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::IntCounterVec;
use synod_runtime::metrics::{MetricsError, TEXT_CONTENT_TYPE};

/// A service that can be checked.
pub trait Checked: Send + Sync + 'static {
    /// One check.
    type Check: Copy + Send + Sync + 'static;

    /// The checks of `/livez`: if one fails, a restart may help.
    const LIVEZ: &'static [Self::Check];
    /// The checks of `/readyz`: if one fails, clients should go elsewhere.
    const READYZ: &'static [Self::Check];

    /// A check's name in paths, reports and metrics: `serving`.
    fn name(check: Self::Check) -> &'static str;

    /// Runs a check.
    ///
    /// # Errors
    /// Why it fails, as text for the report.
    fn check(&self, check: Self::Check) -> impl Future<Output = Result<(), String>> + Send;

    /// Counts checks by endpoint (`livez` or `readyz`), name and result (`success` or `error`), in
    /// this order of its labels.
    fn counter(&self) -> &IntCounterVec;

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A collector is inconsistent.
    fn metrics(&self) -> Result<String, MetricsError>;
}

/// The routes. Every other path is not found.
pub fn router<S: Checked>(service: Arc<S>) -> Router {
    let mut router = Router::new().route("/metrics", get(metrics::<S>));
    for (endpoint, checks) in [("livez", S::LIVEZ), ("readyz", S::READYZ)] {
        let all = move |State(service): State<Arc<S>>, RawQuery(query): RawQuery| async move {
            run(&*service, endpoint, checks, &Query::parse(query.as_deref())).await
        };
        router = router.route(&format!("/{endpoint}"), get(all));
        for (place, check) in checks.iter().enumerate() {
            let one = move |State(service): State<Arc<S>>, RawQuery(query): RawQuery| async move {
                let query = Query::parse(query.as_deref()).without("exclude");
                run(&*service, endpoint, &checks[place..=place], &query).await
            };
            router = router.route(&format!("/{endpoint}/{}", S::name(*check)), get(one));
        }
    }
    router.with_state(service)
}

async fn metrics<S: Checked>(State(service): State<Arc<S>>) -> Response {
    match service.metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn run<S: Checked>(
    service: &S,
    endpoint: &'static str,
    checks: &[S::Check],
    query: &Query,
) -> Response {
    let mut report = String::new();
    let mut healthy = true;
    for check in checks {
        let name = S::name(*check);
        if query.has("exclude", name) {
            continue;
        }
        let result = service.check(*check).await;
        let status = if result.is_ok() { "success" } else { "error" };
        service
            .counter()
            .with_label_values(&[endpoint, name, status])
            .inc();
        // Writing to a string can't fail.
        let _ = match result {
            Ok(()) => writeln!(report, "[+]{name} ok"),
            Err(why) => {
                healthy = false;
                writeln!(report, "[-]{name} failed: {why}")
            }
        };
    }
    if !healthy {
        tracing::warn!(endpoint, report, "health check failed");
        return plain(StatusCode::SERVICE_UNAVAILABLE, report + "\n");
    }
    if query.last("verbose").is_none() {
        report.clear();
    }
    plain(StatusCode::OK, report + "ok\n")
}

fn plain(status: StatusCode, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, text).into_response()
}

/// The query parameters of an HTTP request.
#[derive(Debug, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the question mark of a URL.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// Whether the parameter has this value; it may have others too.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        let mut pairs = self.0.iter();
        pairs.any(|(known, found)| known == name && found == value)
    }

    /// The parameter's last value. It is empty for a parameter without a value.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use synod_runtime::metrics::Registry;
    use tower::ServiceExt as _;

    use super::*;

    /// A coordination service whose endpoint does not answer.
    struct Coordination {
        registry: Registry,
        checks: IntCounterVec,
    }

    #[derive(Clone, Copy)]
    enum Check {
        Follows,
        Endpoint,
    }

    impl Checked for Coordination {
        type Check = Check;

        const LIVEZ: &'static [Check] = &[Check::Follows];
        const READYZ: &'static [Check] = &[Check::Follows, Check::Endpoint];

        fn name(check: Check) -> &'static str {
            match check {
                Check::Follows => "follows",
                Check::Endpoint => "endpoint",
            }
        }

        async fn check(&self, check: Check) -> Result<(), String> {
            match check {
                Check::Follows => Ok(()),
                Check::Endpoint => Err("no answer".to_owned()),
            }
        }

        fn counter(&self) -> &IntCounterVec {
            &self.checks
        }

        fn metrics(&self) -> Result<String, MetricsError> {
            self.registry.text()
        }
    }

    fn routes() -> Router {
        let registry = Registry::new();
        let labels = ["endpoint", "check", "result"];
        let checks = registry
            .counter_vec("coordination_health_checks_total", "Checks.", &labels)
            .unwrap();
        router(Arc::new(Coordination { registry, checks }))
    }

    async fn get(routes: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn checks_are_reported_left_out_and_counted() {
        let routes = routes();
        let failed = "[+]follows ok\n[-]endpoint failed: no answer\n\n";
        for (path, status, body) in [
            ("/livez", 200, "ok\n"),
            ("/livez?verbose", 200, "[+]follows ok\nok\n"),
            ("/readyz", 503, failed),
            ("/readyz?exclude=endpoint", 200, "ok\n"),
            ("/readyz/follows", 200, "ok\n"),
            (
                "/readyz/endpoint?exclude=endpoint",
                503,
                "[-]endpoint failed: no answer\n\n",
            ),
            ("/livez/endpoint", 404, ""),
        ] {
            let expected = (status, body.to_owned());
            assert_eq!(get(&routes, path).await, expected, "{path}");
        }
        let (status, text) = get(&routes, "/metrics").await;
        let counted = "coordination_health_checks_total{check=\"endpoint\",endpoint=\"readyz\",result=\"error\"} 2";
        assert!(status == 200 && text.contains(counted), "{text}");
    }

    #[test]
    fn queries_are_read_as_forms_are() {
        let text = "verbose&exclude=NOSPACE&exclude=a%20b&exclude=&serializable=true";
        let query = Query::parse(Some(text));
        assert_eq!(query.last("verbose"), Some(""));
        assert_eq!(query.last("serializable"), Some("true"));
        assert!(query.has("exclude", "NOSPACE") && query.has("exclude", "a b"));
        assert_eq!(query.last("absent"), None);
        assert_eq!(Query::parse(None), Query::parse(Some("")));
    }
}
