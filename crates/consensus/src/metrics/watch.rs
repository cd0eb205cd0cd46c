//! Exports the watch hub's gauges to Prometheus.

use prometheus::proto::MetricType;
use synod_runtime::metrics::{MetricsError, Registry};
use synod_service::scraped::{Figure, gauge, register_scraped};
use synod_watch::WatchHandle;

/// Registers the hub's gauges.
///
/// # Errors
/// A name is taken.
pub(crate) fn register_watch(registry: &Registry, hub: WatchHandle) -> Result<(), MetricsError> {
    let figure = |name, help| Figure {
        name,
        help,
        kind: MetricType::GAUGE,
    };
    let figures = vec![
        figure(
            "etcd_debugging_mvcc_watch_stream_total",
            "Open watch streams.",
        ),
        figure("etcd_debugging_mvcc_watcher_total", "Watchers."),
        figure(
            "etcd_debugging_mvcc_slow_watcher_total",
            "Watchers that catch up or whose clients read too slowly.",
        ),
    ];
    register_scraped(registry, figures, move || {
        let stats = hub.stats();
        let values = [stats.streams(), stats.watchers(), stats.behind()];
        values.map(|value| gauge(value as u64)).into()
    })
}
