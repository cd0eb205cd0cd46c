//! The text of a `grpc-timeout` header.

use std::time::Duration;

/// Splits the text into its amount, which is not checked, and the duration of its unit. `None` if
/// it does not end with one of gRPC's units.
#[must_use]
pub fn split_timeout(text: &str) -> Option<(&str, Duration)> {
    let (amount, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some((amount, unit))
}
