//! The answers in ZooKeeper's formats, which monitoring tools read.

use std::fmt::{Display, Write as _};
use std::time::UNIX_EPOCH;

use synod_coordination_core::SessionId;
use synod_runtime::clock;

use crate::hub::{ConnectionView, Hub, Listed};
use crate::zookeeper::Operators;

/// The version of ZooKeeper whose protocol is spoken, which tools compare, and ours.
const VERSION: &str = concat!("3.9.5-synod-", env!("CARGO_PKG_VERSION"));

/// Collects lines.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: impl Display) {
        // Writing to a string does not fail.
        let _infallible = writeln!(self.0, "{line}");
    }

    /// Says that a list was too long.
    fn note_rest<T>(&mut self, listed: &Listed<T>) {
        let rest = listed.total - listed.shown.len();
        if rest > 0 {
            self.add(format_args!("({rest} more are not shown)"));
        }
    }
}

pub(super) fn configuration(operators: &Operators) -> String {
    let port = |addresses: &[String]| {
        let first = addresses
            .first()
            .and_then(|address| address.rsplit_once(':'));
        first.map_or("-1".to_owned(), |(_, port)| port.to_owned())
    };
    let limits = &operators.limits;
    let mut lines = Lines::default();
    lines.add(format_args!("clientPort={}", port(&operators.addresses)));
    lines.add(format_args!(
        "secureClientPort={}",
        port(&operators.tls_addresses)
    ));
    lines.add(format_args!(
        "tickTime={}",
        limits.min_session_timeout_ms / 2
    ));
    lines.add(format_args!(
        "maxClientCnxns={}",
        limits.max_connections_per_address
    ));
    lines.add(format_args!(
        "minSessionTimeout={}",
        limits.min_session_timeout_ms
    ));
    lines.add(format_args!(
        "maxSessionTimeout={}",
        limits.max_session_timeout_ms
    ));
    lines.0
}

pub(super) fn environment() -> String {
    let mut lines = Lines::default();
    lines.add("Environment:");
    lines.add(format_args!("zookeeper.version={VERSION}"));
    lines.add(format_args!("os.name={}", std::env::consts::OS));
    lines.add(format_args!("os.arch={}", std::env::consts::ARCH));
    lines.0
}

pub(super) fn server(operators: &Operators) -> String {
    let mut lines = Lines::default();
    lines.add(format_args!("Zookeeper version: {VERSION}"));
    add_server(&mut lines, operators);
    lines.0
}

pub(super) fn server_and_connections(operators: &Operators) -> String {
    let mut lines = Lines::default();
    lines.add(format_args!("Zookeeper version: {VERSION}"));
    lines.add("Clients:");
    let connections = operators.hub.connections();
    for connection in &connections.shown {
        lines.add(format_args!(" {})", brief(connection)));
    }
    lines.note_rest(&connections);
    lines.add("");
    add_server(&mut lines, operators);
    lines.0
}

fn add_server(lines: &mut Lines, operators: &Operators) {
    let facts = operators.hub.facts();
    let statistics = operators.hub.statistics();
    lines.add(format_args!(
        "Latency min/avg/max: {}/{}/{}",
        statistics.min_ms(),
        statistics.average_ms(),
        statistics.max_ms(),
    ));
    lines.add(format_args!("Received: {}", statistics.received));
    lines.add(format_args!("Sent: {}", statistics.sent));
    lines.add(format_args!("Connections: {}", facts.connections));
    lines.add(format_args!("Outstanding: {}", facts.waiting));
    lines.add(format_args!("Zxid: 0x{:x}", facts.last.get()));
    lines.add(format_args!("Mode: {}", operators.mode()));
    lines.add(format_args!("Node count: {}", facts.nodes));
}

/// The start of a connection's line.
fn brief(connection: &ConnectionView) -> String {
    format!(
        "/{}[1](queued={},recved={},sent={}",
        connection.address,
        connection.queued,
        connection.statistics.received,
        connection.statistics.sent,
    )
}

pub(super) fn connections(hub: &Hub) -> String {
    let mut lines = Lines::default();
    let connections = hub.connections();
    for connection in &connections.shown {
        lines.add(format_args!(
            " {}{})",
            brief(connection),
            details(connection)
        ));
    }
    lines.note_rest(&connections);
    lines.add("");
    lines.0
}

/// What is known of a connection with a session.
fn details(connection: &ConnectionView) -> String {
    let Some((session, timeout_ms)) = connection.session else {
        return String::new();
    };
    let since = connection.since.duration_since(UNIX_EPOCH);
    let mut text = format!(
        ",sid={},lop={},est={},to={timeout_ms}",
        hex(session),
        connection.last.map_or("NA", |last| last.op),
        since.unwrap_or_default().as_millis(),
    );
    if let Some(last) = connection.last {
        let ago = clock::now().saturating_duration_since(last.at);
        let statistics = &connection.statistics;
        let _infallible = write!(
            text,
            ",lcxid=0x{:x},lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
            last.xid,
            last.zxid,
            clock::wall()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .saturating_sub(ago)
                .as_millis(),
            last.latency.as_millis(),
            statistics.min_ms(),
            statistics.average_ms(),
            statistics.max_ms(),
        );
    }
    text
}

pub(super) fn sessions(hub: &Hub) -> String {
    let mut lines = Lines::default();
    let sessions = hub.session_timeouts();
    lines.add("SessionTracker dump:");
    lines.add(format_args!("Global Sessions({}):", sessions.total));
    for &(session, timeout_ms) in &sessions.shown {
        lines.add(format_args!("{}\t{timeout_ms}ms", hex(session)));
    }
    lines.note_rest(&sessions);
    let ephemerals = hub.ephemerals();
    lines.add("ephemeral nodes dump:");
    lines.add(format_args!(
        "Sessions with Ephemerals ({}):",
        ephemerals.total
    ));
    for (session, paths) in &ephemerals.shown {
        lines.add(format_args!("{}:", hex(*session)));
        for path in paths {
            lines.add(format_args!("\t{path}"));
        }
    }
    lines.note_rest(&ephemerals);
    let connections = hub.connections();
    lines.add("Connections dump:");
    lines.add(format_args!("Connections ({}):", connections.total));
    for connection in &connections.shown {
        let session = connection
            .session
            .map_or(SessionId::default(), |(id, _)| id);
        let address = connection.address;
        lines.add(format_args!("\tip: /{address} sessionId: {}", hex(session)));
    }
    lines.note_rest(&connections);
    lines.0
}

pub(super) fn watch_summary(hub: &Hub) -> String {
    let summary = hub.watch_summary();
    format!(
        "{} connections watching {} paths\nTotal watches:{}\n",
        summary.connections, summary.paths, summary.watches,
    )
}

pub(super) fn watches_by_session(hub: &Hub) -> String {
    let mut lines = Lines::default();
    let listed = hub.watches_by_session();
    for (session, paths) in &listed.shown {
        lines.add(hex(*session));
        for path in paths {
            lines.add(format_args!("\t{path}"));
        }
    }
    lines.note_rest(&listed);
    lines.add("");
    lines.0
}

pub(super) fn watches_by_path(hub: &Hub) -> String {
    let mut lines = Lines::default();
    let listed = hub.watches_by_path();
    for (path, sessions) in &listed.shown {
        lines.add(path);
        for session in sessions {
            lines.add(format_args!("\t{}", hex(*session)));
        }
    }
    lines.note_rest(&listed);
    lines.add("");
    lines.0
}

pub(super) fn metrics(operators: &Operators) -> String {
    let hub = &operators.hub;
    let facts = hub.facts();
    let statistics = hub.statistics();
    let mut lines = Lines::default();
    lines.add(format_args!("zk_version\t{VERSION}"));
    lines.add(format_args!("zk_server_state\t{}", operators.mode()));
    lines.add(format_args!("zk_avg_latency\t{}", statistics.average_ms()));
    let numbers = [
        ("min_latency", statistics.min_ms()),
        ("max_latency", statistics.max_ms()),
        ("packets_received", statistics.received),
        ("packets_sent", statistics.sent),
    ];
    for (name, value) in numbers {
        lines.add(format_args!("zk_{name}\t{value}"));
    }
    let counts = [
        ("num_alive_connections", facts.connections),
        ("outstanding_requests", facts.waiting),
        ("znode_count", facts.nodes),
        ("watch_count", facts.watches),
        ("ephemerals_count", facts.ephemerals),
        ("global_sessions", facts.sessions),
    ];
    for (name, value) in counts {
        lines.add(format_args!("zk_{name}\t{value}"));
    }
    let uptime = clock::now().saturating_duration_since(operators.started);
    lines.add(format_args!("zk_uptime\t{}", uptime.as_millis()));
    for (name, value) in operators.traffic.counts() {
        lines.add(format_args!("zk_{name}\t{value}"));
    }
    for (name, latency) in operators.traffic.latencies() {
        let (count, sum) = (latency.get_sample_count(), latency.get_sample_sum());
        lines.add(format_args!("zk_cnt_{name}\t{count}"));
        lines.add(format_args!("zk_sum_{name}\t{sum:.4}"));
    }
    lines.0
}

fn hex(session: SessionId) -> String {
    format!("0x{:x}", session.get())
}
