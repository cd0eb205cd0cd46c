//! A call's status as an HTTP response.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;

/// A request that is answered only with an error.
#[derive(Debug)]
pub(super) struct Refusal {
    http: StatusCode,
    status: Status,
}

/// `google.rpc.Status` in JSON.
#[derive(Serialize)]
struct Shown<'a> {
    code: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail>,
}

/// `google.rpc.ErrorInfo` in JSON, the one kind of detail that our services send.
#[derive(Serialize)]
struct Detail {
    #[serde(rename = "@type")]
    kind: &'static str,
    reason: String,
    domain: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    metadata: HashMap<String, String>,
}

impl Refusal {
    /// A request that is larger than the server takes, with etcd's text.
    pub(super) fn too_large() -> Self {
        Self {
            http: StatusCode::PAYLOAD_TOO_LARGE,
            status: Status::invalid_argument("etcdserver: request is too large"),
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut text = Vec::new();
        write(&self.status, &mut text);
        let mut response = json(self.http, Body::new(Full::new(Bytes::from(text))));
        if self.status.code() == Code::Unauthenticated
            && let Ok(why) = HeaderValue::from_str(self.status.message())
        {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, why);
        }
        response
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self {
            http: http_status(status.code()),
            status,
        }
    }
}

/// A response with JSON.
pub(super) fn json(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Appends a status as JSON.
pub(super) fn write(status: &Status, out: &mut Vec<u8>) {
    let info = status.get_details_error_info();
    let details = info.into_iter().map(|info| Detail {
        kind: "type.googleapis.com/google.rpc.ErrorInfo",
        reason: info.reason,
        domain: info.domain,
        metadata: info.metadata,
    });
    let shown = Shown {
        code: status.code().into(),
        message: status.message(),
        details: details.collect(),
    };
    // Writing to memory does not fail, and all keys are text.
    let _never_fails = serde_json::to_writer(out, &shown);
}

/// grpc-gateway's table.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // nginx's "client closed request", which has no name here.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn written(status: &Status) -> String {
        let mut out = Vec::new();
        write(status, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_status_is_etcds_json() {
        let plain = Status::not_found("etcdserver: \"lease\" not found");
        let text = r#"{"code":5,"message":"etcdserver: \"lease\" not found"}"#;
        assert_eq!(written(&plain), text);
        assert_eq!(written(&Status::new(Code::Unknown, "")), r#"{"code":2}"#);
        let details = ErrorDetails::with_error_info("NOT_DONE", "synod", HashMap::new());
        let detailed = Status::with_error_details(Code::Unavailable, "no leader", details);
        let text = concat!(
            r#"{"code":14,"message":"no leader","details":"#,
            r#"[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"NOT_DONE","domain":"synod"}]}"#
        );
        assert_eq!(written(&detailed), text);
    }

    #[test]
    fn codes_have_grpc_gateways_http_status() {
        let found: Vec<u16> = (0..17)
            .map(|code| http_status(Code::from(code)).as_u16())
            .collect();
        let expected = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_unauthenticated_request_gets_the_header_www_authenticate() {
        let refusal = Refusal::from(Status::unauthenticated("etcdserver: invalid auth token"));
        let response = refusal.into_response();
        assert_eq!(response.status(), 401);
        let header = &response.headers()[header::WWW_AUTHENTICATE];
        assert_eq!(header, "etcdserver: invalid auth token");
    }
}
