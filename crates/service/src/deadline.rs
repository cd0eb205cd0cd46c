//! How long the caller of a gRPC call waits for its answer.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// What the call's `grpc-timeout` header says; `None` if there is none that can be read.
#[must_use]
pub fn asked_timeout(metadata: &MetadataMap) -> Option<Duration> {
    parse(metadata.get("grpc-timeout")?.to_str().ok()?)
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // `parse` would take a sign.
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
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
}
