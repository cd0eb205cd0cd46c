//! Which web pages may read responses, and which names of the server requests may use. Both protect
//! users of browsers, and do not apply to gRPC.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use parking_lot::Mutex;
use synod_runtime::clock;
use tonic::body::Body;

/// A refused name is logged at most once in this time, since anybody can send one.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// The allowed names or origins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Allowed {
    /// Any.
    #[default]
    All,
    /// These alone.
    These(Vec<String>),
}

/// Controls requests over HTTP as etcd does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessControl {
    /// The origins whose pages may read responses (CORS), for instance `https://site.example`.
    pub origins: Allowed,
    /// The names in `Host` that requests without TLS may have. Otherwise a page can reach the
    /// server through a name of its own site that resolves to the server's address (DNS
    /// rebinding).
    pub hosts: Allowed,
}

impl Allowed {
    fn has(&self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(words) => words.iter().any(|allowed| allowed == word),
        }
    }
}

/// Applies an [`AccessControl`] to requests.
#[derive(Debug)]
pub(super) struct Access {
    control: AccessControl,
    /// When a refused name was logged last.
    logged: Mutex<Option<Instant>>,
}

impl Access {
    pub(super) fn new(control: AccessControl) -> Self {
        Self {
            control,
            logged: Mutex::default(),
        }
    }

    /// The answer to a request that is not passed on: one with a name that is not allowed, or a
    /// browser's preflight request (OPTIONS).
    pub(super) fn answer<B>(
        &self,
        request: &Request<B>,
        is_secure: bool,
    ) -> Option<Response<Body>> {
        if !is_secure {
            let host = host(request);
            if !self.control.hosts.has(host) {
                if self.may_log(clock::now()) {
                    tracing::warn!(
                        host,
                        "refused an HTTP request whose Host is not in --host-whitelist, to prevent DNS rebinding; \
                         add the name if it is this member's; further refusals of this minute are not logged"
                    );
                }
                return Some(misdirected(host));
            }
        }
        let asks = request.method() == Method::OPTIONS;
        asks.then(|| {
            let mut response = Response::new(Body::empty());
            self.allow(
                request.headers().get(header::ORIGIN),
                response.headers_mut(),
            );
            response
        })
    }

    /// Adds the headers that let a page read a response, if its origin is allowed.
    pub(super) fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let Some(origin) = self.allowed(origin) else {
            return;
        };
        const NAMES: [HeaderName; 3] = [
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
        ];
        let values = [
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
            origin,
            HeaderValue::from_static("accept, content-type, authorization"),
        ];
        headers.extend(NAMES.into_iter().zip(values));
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origins = &self.control.origins;
        if *origins == Allowed::All {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = origin?;
        let is_allowed = origin.to_str().is_ok_and(|text| origins.has(text));
        is_allowed.then(|| origin.clone())
    }

    fn may_log(&self, now: Instant) -> bool {
        let mut logged = self.logged.lock();
        let is_too_soon = logged.is_some_and(|last| now.duration_since(last) < LOG_PAUSE);
        if !is_too_soon {
            *logged = Some(now);
        }
        !is_too_soon
    }
}

/// The name that the client calls the server by, without the port.
fn host<B>(request: &Request<B>) -> &str {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let header = || request.headers().get(header::HOST)?.to_str().ok();
    without_port(authority.or_else(header).unwrap_or_default())
}

/// An IPv6 address with a port is in brackets, which are removed too. Text that has no port stays
/// as it is.
fn without_port(host: &str) -> &str {
    let Some((name, _port)) = host.rsplit_once(':') else {
        return host;
    };
    match name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
    {
        Some(address) => address,
        None if name.contains([':', '[', ']']) => host,
        None => name,
    }
}

/// etcd's status, with its advice.
fn misdirected(host: &str) -> Response<Body> {
    let text = format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n\n"
    );
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    let as_it_is = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, as_it_is);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn these(words: &[&str]) -> Allowed {
        Allowed::These(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn request(method: Method, host: &str, origin: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        request
    }

    #[test]
    fn a_host_is_compared_without_its_port() {
        for (host, name) in [
            ("", ""),
            ("localhost", "localhost"),
            ("localhost:2379", "localhost"),
            ("127.0.0.1:2379", "127.0.0.1"),
            ("[::1]:2379", "::1"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("a:b:c", "a:b:c"),
            ("host:", "host"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn other_names_are_refused_without_tls_only() {
        let access = Access::new(AccessControl {
            hosts: these(&["localhost", "::1"]),
            ..AccessControl::default()
        });
        for (host, is_secure, refused) in [
            ("localhost:2379", false, false),
            ("[::1]:2379", false, false),
            ("evil.example:2379", false, true),
            ("Localhost", false, true),
            ("", false, true),
            ("evil.example:2379", true, false),
        ] {
            let request = request(Method::POST, host, None);
            let answer = access.answer(&request, is_secure);
            assert_eq!(answer.is_some(), refused, "{host}");
            if let Some(answer) = answer {
                assert_eq!(answer.status(), 421);
                assert!(
                    answer
                        .headers()
                        .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)
                        .is_none()
                );
            }
        }
        let mut over_http2 = Request::new(());
        *over_http2.uri_mut() = "http://evil.example:2379/health".parse().unwrap();
        assert!(access.answer(&over_http2, false).is_some());
        let anything = Access::new(AccessControl::default());
        let request = request(Method::GET, "evil.example", None);
        assert!(anything.answer(&request, false).is_none());
    }

    #[test]
    fn refused_names_do_not_flood_the_log() {
        let access = Access::new(AccessControl::default());
        let start = clock::now();
        let logged = [0, 1, 59, 60, 61, 119, 120].map(|s| {
            let now = start + Duration::from_secs(s);
            (s, access.may_log(now))
        });
        let logged = logged.into_iter().filter(|(_, may)| *may);
        assert_eq!(logged.map(|(s, _)| s).collect::<Vec<_>>(), [0, 60, 120]);
    }

    #[test]
    fn only_pages_of_allowed_origins_may_read() {
        let some = these(&["https://a.example"]);
        for (origins, origin, shown) in [
            (&Allowed::All, None, Some("*")),
            (&Allowed::All, Some("https://b.example"), Some("*")),
            (&some, Some("https://a.example"), Some("https://a.example")),
            (&some, Some("https://b.example"), None),
            (&some, None, None),
        ] {
            let access = Access::new(AccessControl {
                origins: origins.clone(),
                ..AccessControl::default()
            });
            let asked = request(Method::OPTIONS, "h", origin);
            let answer = access.answer(&asked, false).unwrap();
            assert_eq!(answer.status(), 200);
            let headers = answer.headers();
            let found = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(found.map(|value| value.to_str().unwrap()), shown);
            assert_eq!(
                headers.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS),
                shown.is_some()
            );
        }
    }
}
