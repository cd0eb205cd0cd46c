//! etcd's command line: all flags, and what each does here.

use synod_service::config::{CommandLine, Effect, Family, Flag, Kind, PREFIX, Section};

use Effect::{Ignored, Refused, Used};
use Kind::{Switch, Value};

/// The flags of etcd 3.7 and our own. Each is also a variable: `ETCD_` and its name in upper snake
/// case. Our own are read from `SYNOD_...` first.
pub(super) const COMMAND_LINE: CommandLine = CommandLine {
    flags: FLAGS,
    ignored: Some(Family {
        prefix: "experimental-",
        why: "experimental flags have no effect",
    }),
};

/// The sections of etcd's configuration file.
pub(super) const SECTIONS: &[Section] = &[
    Section {
        name: "client-transport-security",
        flags: &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("crl-file", "client-crl-file"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
            ("allowed-hostnames", "client-cert-allowed-hostname"),
        ],
    },
    Section {
        name: "peer-transport-security",
        flags: &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("crl-file", "peer-crl-file"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-cns", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("allowed-hostnames", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
        ],
    },
];

const ETCDS: &[&str] = &["ETCD_"];
const OURS: &[&str] = &[PREFIX, "ETCD_"];

const ITSELF: &str = "this server does not connect to its own client port";
const BBOLT: &str = "the storage engine is not bbolt";
const DISCOVERY: &str = "discovery is not supported: list the members in --initial-cluster";
const GO: &str = "it concerns etcd's Go runtime or HTTP stack";
const TRACING: &str = "tracing is configured by OTEL_EXPORTER_OTLP_ENDPOINT";
const LOGGING: &str = "logs go to standard error; see --log-level and --log-format";

macro_rules! flags {
    ($($name:literal $kind:ident $effect:expr $(=> $help:literal)?;)*) => {
        const FLAGS: &[Flag] = &[$(Flag {
            name: $name,
            kind: $kind,
            effect: $effect,
            help: concat!($($help)?),
            prefixes: if concat!($($help)?).is_empty() { ETCDS } else { OURS },
        }),*];
    };
}

flags! {
    "name" Value Used;
    "data-dir" Value Used;
    "wal-dir" Value Used;
    "listen-client-urls" Value Used;
    "listen-client-http-urls" Value Used;
    "listen-peer-urls" Value Used;
    "listen-metrics-urls" Value Used;
    "advertise-client-urls" Value Used;
    "initial-advertise-peer-urls" Value Used;
    "initial-cluster" Value Used;
    "initial-cluster-state" Value Used;
    "initial-cluster-token" Value Used;
    "heartbeat-interval" Value Used;
    "election-timeout" Value Used;
    "pre-vote" Switch Used;
    "strict-reconfig-check" Switch Used;
    "max-learners" Value Used;
    "snapshot-count" Value Used;
    "snapshot-catchup-entries" Value Used;
    "quota-backend-bytes" Value Used;
    "max-request-bytes" Value Used;
    "max-txn-ops" Value Used;
    "max-concurrent-streams" Value Used;
    "enable-grpc-gateway" Switch Used;
    "cors" Value Used;
    "host-whitelist" Value Used;
    "auto-compaction-mode" Value Used;
    "auto-compaction-retention" Value Used;
    "watch-progress-notify-interval" Value Used;
    "unsafe-no-fsync" Switch Used;
    "log-level" Value Used;
    "log-format" Value Used;
    "config-file" Value Used;
    "version" Switch Used;
    "help" Switch Used;

    // Our own, with descriptions, since etcd's manual has none.
    "engine" Value Used =>
        "the consensus algorithm, the same on all members: raft or multi-paxos; by default what the data directory \
        was made with, raft for a new one";
    "restore-snapshot" Value Used =>
        "start a new cluster from this file of `etcdctl snapshot save`; give the same file to all members, with empty \
        data directories";
    "linearizable-read" Value Used =>
        "how a linearizable read is confirmed: read-index (default) or lease";
    "io-threads" Value Used =>
        "threads that serve connections; 0 (default): by the number of processors";
    "cache-bytes" Value Used =>
        "the storage engine's block cache in bytes; 67108864 by default";
    "response-budget-bytes" Value Used =>
        "memory for large responses until they are sent, in bytes; 268435456 by default";
    "feature-level" Value Used =>
        "the highest feature level that this member lets the cluster use; the release's by default";

    "cert-file" Value Used;
    "key-file" Value Used;
    "client-cert-auth" Switch Used;
    "client-cert-file" Value Ignored(ITSELF);
    "client-key-file" Value Ignored(ITSELF);
    "client-crl-file" Value Used;
    "client-cert-allowed-hostname" Value Used;
    "trusted-ca-file" Value Used;
    "auto-tls" Switch Used;
    "peer-cert-file" Value Used;
    "peer-key-file" Value Used;
    "peer-client-cert-auth" Switch Used;
    "peer-client-cert-file" Value Used;
    "peer-client-key-file" Value Used;
    "peer-trusted-ca-file" Value Used;
    "peer-auto-tls" Switch Used;
    "peer-crl-file" Value Used;
    "peer-cert-allowed-cn" Value Used;
    "peer-cert-allowed-hostname" Value Used;
    "peer-skip-client-san-verification" Switch Ignored(
        "a peer's address is not compared with its certificate; see --peer-cert-allowed-cn"
    );
    "cipher-suites" Value Used;
    "tls-min-version" Value Used;
    "tls-max-version" Value Used;
    "self-signed-cert-validity" Value Used;

    "force-new-cluster" Switch Refused("recovery from a lost majority comes in a later release");
    "discovery" Value Refused(DISCOVERY);
    "discovery-token" Value Refused(DISCOVERY);
    "discovery-endpoints" Value Refused(DISCOVERY);
    "discovery-srv" Value Refused(DISCOVERY);
    "discovery-srv-name" Value Refused(DISCOVERY);
    "discovery-proxy" Value Ignored(DISCOVERY);
    "discovery-fallback" Value Ignored(DISCOVERY);
    "discovery-dial-timeout" Value Ignored(DISCOVERY);
    "discovery-request-timeout" Value Ignored(DISCOVERY);
    "discovery-keepalive-time" Value Ignored(DISCOVERY);
    "discovery-keepalive-timeout" Value Ignored(DISCOVERY);
    "discovery-insecure-transport" Switch Ignored(DISCOVERY);
    "discovery-insecure-skip-tls-verify" Switch Ignored(DISCOVERY);
    "discovery-cert" Value Ignored(DISCOVERY);
    "discovery-key" Value Ignored(DISCOVERY);
    "discovery-cacert" Value Ignored(DISCOVERY);
    "discovery-user" Value Ignored(DISCOVERY);
    "discovery-password" Value Ignored(DISCOVERY);

    "auth-token" Value Used;
    "auth-token-ttl" Value Used;
    "bcrypt-cost" Value Used;

    "backend-bbolt-freelist-type" Value Ignored(BBOLT);
    "backend-batch-interval" Value Ignored(BBOLT);
    "backend-batch-limit" Value Ignored(BBOLT);
    "bootstrap-defrag-threshold-megabytes" Value Ignored(BBOLT);
    "memory-mlock" Switch Ignored(BBOLT);
    "compaction-batch-limit" Value Ignored("compaction paces itself");
    "compaction-sleep-interval" Value Ignored("compaction paces itself");

    "max-snapshots" Value Ignored("snapshots are streamed, not kept");
    "max-wals" Value Ignored("log segments are recycled");
    "corrupt-check-time" Value Ignored("compare `endpoint hashkv` instead");
    "compact-hash-check-time" Value Ignored("compare `endpoint hashkv` instead");
    "downgrade-check-time" Value Ignored("there is no downgrade");
    "v2-deprecation" Value Ignored("there is no v2 store");
    "enable-v2" Switch Ignored("there is no v2 store");
    "feature-gates" Value Ignored("there are no feature gates");
    "initial-election-tick-advance" Switch Ignored("elections start at once");
    "warning-apply-duration" Value Ignored("see the metrics instead");
    "warning-unary-request-duration" Value Ignored("see the metrics instead");

    "grpc-keepalive-min-time" Value Ignored(GO);
    "grpc-keepalive-interval" Value Ignored(GO);
    "grpc-keepalive-timeout" Value Ignored(GO);
    "socket-reuse-port" Switch Ignored(GO);
    "socket-reuse-address" Switch Ignored(GO);
    "raft-read-timeout" Value Ignored(GO);
    "raft-write-timeout" Value Ignored(GO);
    "enable-pprof" Switch Ignored(GO);
    "metrics" Value Ignored("all metrics are always exported");
    "logger" Value Ignored(LOGGING);
    "log-outputs" Value Ignored(LOGGING);
    "enable-log-rotation" Switch Ignored(LOGGING);
    "log-rotation-config-json" Value Ignored(LOGGING);
    "enable-distributed-tracing" Switch Ignored(TRACING);
    "distributed-tracing-address" Value Ignored(TRACING);
    "distributed-tracing-service-name" Value Ignored(TRACING);
    "distributed-tracing-instance-id" Value Ignored(TRACING);
    "distributed-tracing-sampling-rate" Value Ignored(TRACING);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_listed_once() {
        let mut names: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(before, names.len());
    }

    #[test]
    fn our_own_flags_have_our_own_variables() {
        let ours = FLAGS.iter().filter(|flag| flag.prefixes == OURS);
        let ours: Vec<_> = ours.map(|flag| flag.name).collect();
        let expected = [
            "engine",
            "restore-snapshot",
            "linearizable-read",
            "io-threads",
            "cache-bytes",
            "response-budget-bytes",
            "feature-level",
        ];
        assert_eq!(ours, expected);
        let env = |name: &str| match name {
            "SYNOD_ENGINE" => Some("multi-paxos".to_owned()),
            "ETCD_ENGINE" | "SYNOD_NAME" => Some("raft".to_owned()),
            _ => None,
        };
        let given = COMMAND_LINE.read(&[], &env).unwrap();
        assert_eq!(given.last("engine"), Some("multi-paxos"));
        assert!(!given.has("name"));
    }
}
