//! The timeout that a gRPC call asks for.

use std::time::Duration;

use synod_rpc::split_timeout;
use tonic::metadata::MetadataMap;

/// A `grpc-timeout` header that is none. As in gRPC for Go the call fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "malformed grpc-timeout {0}: expected up to eight digits and one of the units H, M, S, m, u and n"
)]
pub struct MalformedTimeout(String);

/// The timeout in the call's `grpc-timeout` header, if there is one.
///
/// # Errors
/// The header is malformed.
pub fn asked_timeout(metadata: &MetadataMap) -> Result<Option<Duration>, MalformedTimeout> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(parse);
    timeout
        .map(Some)
        .ok_or_else(|| MalformedTimeout(format!("{value:?}")))
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = split_timeout(text)?;
    // `parse` would accept a sign.
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    unit.checked_mul(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_grpcs() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("250m", Some(Duration::from_millis(250))),
            ("4999999u", Some(Duration::from_micros(4_999_999))),
            ("5", None),
            ("", None),
            ("999999999S", None),
            ("xS", None),
            ("+5S", None),
            ("-5S", None),
            ("S", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_header_is_an_error_and_a_missing_one_is_not() {
        let mut metadata = MetadataMap::new();
        assert_eq!(asked_timeout(&metadata), Ok(None));
        metadata.insert("grpc-timeout", "5S".parse().unwrap());
        let five = Duration::from_secs(5);
        assert_eq!(asked_timeout(&metadata), Ok(Some(five)));
        metadata.insert("grpc-timeout", "+5S".parse().unwrap());
        let text = asked_timeout(&metadata).unwrap_err().to_string();
        assert!(
            text.starts_with("malformed grpc-timeout \"+5S\":"),
            "{text}"
        );
    }
}
