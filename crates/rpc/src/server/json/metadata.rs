//! The metadata of a call, from the headers of its HTTP request.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::Status;

use crate::timeout::split_timeout;

/// Headers with this prefix are metadata.
const PREFIX: &str = "grpc-metadata-";
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Tells services that the call was made with JSON. As in etcd, the common name of the client's
/// certificate is no user then.
const MARK: HeaderName = HeaderName::from_static("grpcgateway-accept");

/// The headers and the timeout of a call. Zero is a timeout that has passed.
///
/// # Errors
/// `INVALID_ARGUMENT` for headers that are malformed, with grpc-gateway's texts.
pub(super) fn of_call(http: &HeaderMap) -> Result<(HeaderMap, Option<Duration>), Status> {
    let mut headers = HeaderMap::with_capacity(4);
    let mark = http.get(header::ACCEPT).cloned();
    headers.insert(MARK, mark.unwrap_or(HeaderValue::from_static("*/*")));
    for (name, value) in http {
        if name == header::AUTHORIZATION {
            headers.append(header::AUTHORIZATION, value.clone());
        }
        let Some(key) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        let Ok(key) = HeaderName::from_bytes(key.as_bytes()) else {
            continue;
        };
        if key.as_str().ends_with("-bin") {
            check_binary(name, value)?;
        }
        if !is_reserved(&key) && value.to_str().is_ok() {
            headers.append(key, value.clone());
        }
    }
    let timeout = http.get(TIMEOUT).filter(|value| !value.is_empty());
    let timeout = timeout.map(timeout_of).transpose()?.flatten();
    if let Some(timeout) = timeout {
        headers.insert(TIMEOUT, shortened(timeout));
    }
    Ok((headers, timeout))
}

/// What belongs to the protocol and not to the call.
fn is_reserved(key: &HeaderName) -> bool {
    key.as_str().starts_with("grpc-")
        || key == MARK
        || [header::CONTENT_TYPE, header::TE, header::USER_AGENT].contains(key)
}

/// Binary metadata is Base64 in gRPC's headers too.
fn check_binary(name: &HeaderName, value: &HeaderValue) -> Result<(), Status> {
    let engine = match value.len() % 4 {
        0 => &STANDARD,
        _ => &STANDARD_NO_PAD,
    };
    match engine.decode(value) {
        Ok(_) => Ok(()),
        Err(error) => Err(Status::invalid_argument(format!(
            "invalid binary header {name}: {error}"
        ))),
    }
}

/// Seconds, `1S`, or another of gRPC's units. As in grpc-gateway zero is no timeout.
fn timeout_of(value: &HeaderValue) -> Result<Option<Duration>, Status> {
    let text = value.to_str().unwrap_or_default();
    let parsed = (|| {
        let (amount, unit) = split_timeout(text)?;
        Some((amount.parse::<i64>().ok()?, unit))
    })();
    let Some((amount, unit)) = parsed else {
        let shown = String::from_utf8_lossy(value.as_bytes());
        return Err(Status::invalid_argument(format!(
            "invalid grpc-timeout: {shown}"
        )));
    };
    Ok(match u32::try_from(amount) {
        Ok(0) => None,
        Ok(amount) => Some(unit.saturating_mul(amount)),
        Err(_) if amount < 0 => Some(Duration::ZERO),
        Err(_) => Some(unit.saturating_mul(u32::MAX)),
    })
}

/// gRPC has room for eight digits.
fn shortened(timeout: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let text = match timeout.as_nanos() {
        nanos if nanos <= MOST => format!("{nanos}n"),
        nanos if nanos / 1_000 <= MOST => format!("{}u", nanos / 1_000),
        nanos if nanos / 1_000_000 <= MOST => format!("{}m", nanos / 1_000_000),
        nanos => format!("{}S", (nanos / 1_000_000_000).min(MOST)),
    };
    // Digits and a letter are a header's value.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = HeaderValue::from_static(value);
            (HeaderName::from_static(name), value)
        });
        pairs.collect()
    }

    /// The metadata without the mark.
    fn metadata(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let (mut metadata, _) = of_call(&headers(pairs)).unwrap();
        assert!(metadata.remove(MARK).is_some(), "{pairs:?}");
        metadata
    }

    #[test]
    fn only_what_is_meant_for_the_service_reaches_it() {
        for (http, grpc) in [
            (&[][..], &[][..]),
            (
                &[("authorization", "abc"), ("host", "h"), ("cookie", "c")],
                &[("authorization", "abc")],
            ),
            (&[("token", "abc")], &[]),
            (
                &[
                    ("grpc-metadata-token", "abc"),
                    ("grpc-metadata-x-bin", "AQI"),
                ],
                &[("token", "abc"), ("x-bin", "AQI")],
            ),
            (
                &[
                    ("grpc-metadata-grpc-encoding", "gzip"),
                    ("grpc-metadata-grpc-timeout", "1n"),
                    ("grpc-metadata-content-type", "text/plain"),
                    ("grpc-metadata-te", "x"),
                    ("grpc-metadata-", "x"),
                ],
                &[],
            ),
            (&[("grpc-timeout", "5S")], &[("grpc-timeout", "5000000u")]),
        ] {
            assert_eq!(metadata(http), headers(grpc), "{http:?}");
        }
    }

    #[test]
    fn every_call_has_the_mark_and_clients_do_not_choose_it() {
        for (http, mark) in [
            (&[][..], "*/*"),
            (&[("accept", "application/json")], "application/json"),
            (&[("grpc-metadata-grpcgateway-accept", "x")], "*/*"),
        ] {
            let (metadata, _) = of_call(&headers(http)).unwrap();
            let marks: Vec<_> = metadata.get_all(MARK).iter().collect();
            assert_eq!(marks, [mark], "{http:?}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        for (name, value, message) in [
            ("grpc-timeout", "5", "invalid grpc-timeout: 5"),
            ("grpc-timeout", "S", "invalid grpc-timeout: S"),
            ("grpc-timeout", "5s", "invalid grpc-timeout: 5s"),
            ("grpc-timeout", "1.5S", "invalid grpc-timeout: 1.5S"),
            (
                "grpc-metadata-x-bin",
                "%%%",
                "invalid binary header grpc-metadata-x-bin: Invalid symbol 37, offset 0.",
            ),
        ] {
            let refused = of_call(&headers(&[(name, value)])).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert_eq!(refused.message(), message);
        }
    }

    #[test]
    fn timeouts_have_grpcs_units() {
        for (text, timeout, passed_on) in [
            ("2H", Some(Duration::from_secs(7200)), "7200000m"),
            ("2M", Some(Duration::from_secs(120)), "120000m"),
            ("2m", Some(Duration::from_millis(2)), "2000000n"),
            ("2u", Some(Duration::from_micros(2)), "2000n"),
            ("2n", Some(Duration::from_nanos(2)), "2n"),
            ("0S", None, ""),
            ("-5S", Some(Duration::ZERO), "0n"),
            (
                "9223372036854775807H",
                Some(Duration::from_secs(3600 * u64::from(u32::MAX))),
                "99999999S",
            ),
            ("", None, ""),
        ] {
            let (metadata, found) = of_call(&headers(&[("grpc-timeout", text)])).unwrap();
            assert_eq!(found, timeout, "{text}");
            let header = metadata.get(TIMEOUT).map(|value| value.to_str().unwrap());
            assert_eq!(header.unwrap_or_default(), passed_on, "{text}");
        }
    }
}
