//! The watch hub's gauges as Prometheus sees them: read when somebody scrapes.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, Metric, MetricFamily, MetricType};

use synod_watch::WatchHandle;

/// Name and help of each gauge, in the order of [`WatchCollector::collect`].
const GAUGES: [(&str, &str); 3] = [
    (
        "etcd_debugging_mvcc_watch_stream_total",
        "Open watch streams.",
    ),
    ("etcd_debugging_mvcc_watcher_total", "Watchers."),
    (
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watchers that catch up or whose clients read too slowly.",
    ),
];

/// Reads the hub's figures.
pub(crate) struct WatchCollector {
    hub: WatchHandle,
    descriptions: Vec<Desc>,
}

impl WatchCollector {
    /// # Errors
    /// A name that Prometheus does not take; ours it does.
    pub(crate) fn new(hub: WatchHandle) -> prometheus::Result<Self> {
        let describe = |(name, help): &(&str, &str)| {
            let (name, help) = ((*name).to_owned(), (*help).to_owned());
            Desc::new(name, help, Vec::new(), std::collections::HashMap::new())
        };
        let descriptions = GAUGES.iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { hub, descriptions })
    }
}

impl Collector for WatchCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.hub.stats();
        let values = [stats.streams(), stats.watchers(), stats.behind()];
        let family = |((name, help), value): (&(&str, &str), usize)| {
            let mut gauge = Gauge::default();
            gauge.set_value(f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
            let mut metric = Metric::default();
            metric.set_gauge(gauge);
            let mut family = MetricFamily::default();
            family.set_name((*name).to_owned());
            family.set_help((*help).to_owned());
            family.set_field_type(MetricType::GAUGE);
            family.set_metric(vec![metric]);
            family
        };
        GAUGES.iter().zip(values).map(family).collect()
    }
}
