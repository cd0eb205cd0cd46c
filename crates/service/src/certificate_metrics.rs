//! When certificates expire, as metrics.

use std::time::SystemTime;

use prometheus::proto::MetricType;
use synod_rpc::{CertificateStatus, ServerTls};
use synod_runtime::metrics::{MetricsError, Registry};

use crate::config::Side;
use crate::scraped::{Figure, counter, gauge, register_scraped};

/// Registers the state of the certificate that listeners show.
///
/// # Errors
/// A name is taken.
pub fn register_certificate(
    registry: &Registry,
    side: Side,
    tls: ServerTls,
) -> Result<(), MetricsError> {
    let (expiry, failed) = match side {
        Side::Clients => (
            "synod_client_certificate_expiry_timestamp_seconds",
            "synod_client_certificate_failed_reloads_total",
        ),
        Side::Peers => (
            "synod_peer_certificate_expiry_timestamp_seconds",
            "synod_peer_certificate_failed_reloads_total",
        ),
    };
    let figures = vec![
        Figure {
            name: expiry,
            help: "When the certificate that the listeners show expires (seconds since 1970).",
            kind: MetricType::GAUGE,
        },
        Figure {
            name: failed,
            help: "Changes of TLS files that could not be used; the previous ones stayed in use.",
            kind: MetricType::COUNTER,
        },
    ];
    register_scraped(registry, figures, move || {
        let (expires, failed) = tls.status().map_or((0, 0), values);
        vec![gauge(expires), counter(failed)]
    })
}

fn values(status: CertificateStatus) -> (u64, u64) {
    let expires = status.expires.duration_since(SystemTime::UNIX_EPOCH);
    (
        expires.map_or(0, |since| since.as_secs()),
        status.failed_reloads,
    )
}

#[cfg(test)]
mod tests {
    use synod_rpc::Protocol;
    use synod_runtime::clock;

    use super::*;

    #[test]
    fn the_expiry_is_seen() {
        let registry = Registry::new();
        let tls = ServerTls::self_signed(&["localhost".to_owned()], 10, &Protocol::default());
        register_certificate(&registry, Side::Peers, tls.unwrap()).unwrap();
        let text = registry.text().unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("synod_peer_certificate_expiry_timestamp_seconds"));
        let value: f64 = line.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let now = clock::wall()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let days = (value - now.as_secs_f64()) / 86_400.0;
        assert!((9.0..=10.0).contains(&days), "{days}");
    }
}
