//! etcd's command line: which flags there are, what each does here, and how they are split from
//! their values.

use super::ConfigError;

/// One flag of the command line; also the environment variable `ETCD_` + its name in upper snake
/// case, `SYNOD_` for a flag of ours.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--flag value` or `--flag=value`.
    Value,
    /// `--flag` or `--flag=true|false`, as Go's flag package has it.
    Switch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It configures something.
    Used,
    /// Accepted for compatibility; logged once with this reason.
    Ignored(&'static str),
    /// TLS: refused as soon as it asks for something, rather than served in plaintext.
    Tls,
    /// Refused as soon as it asks for something, with this reason.
    Refused(&'static str),
}

use Effect::{Ignored, Refused, Tls, Used};
use Kind::{Switch, Value};

const BBOLT: &str = "the storage engine is not bbolt";
const AUTH: &str = "authentication comes in a later release";
const DISCOVERY: &str = "discovery is not supported: list the members in --initial-cluster";
const GO: &str = "it concerns etcd's Go runtime or HTTP stack";
const TRACING: &str = "tracing is configured by OTEL_EXPORTER_OTLP_ENDPOINT";
const LOGGING: &str = "logs go to standard error; see --log-level and --log-format";

macro_rules! flags {
    ($($name:literal $kind:ident $effect:expr;)*) => {
        /// Every flag that etcd 3.7 takes, and our own.
        pub(super) const FLAGS: &[Flag] = &[$(Flag { name: $name, kind: $kind, effect: $effect }),*];
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
    "auto-compaction-mode" Value Used;
    "auto-compaction-retention" Value Used;
    "watch-progress-notify-interval" Value Used;
    "unsafe-no-fsync" Switch Used;
    "log-level" Value Used;
    "log-format" Value Used;
    "version" Switch Used;
    "help" Switch Used;

    // Our own.
    "engine" Value Used;
    "restore-snapshot" Value Used;
    "linearizable-read" Value Used;
    "io-threads" Value Used;
    "cache-bytes" Value Used;
    "response-budget-bytes" Value Used;
    "feature-level" Value Used;

    "cert-file" Value Tls;
    "key-file" Value Tls;
    "client-cert-auth" Switch Tls;
    "client-cert-file" Value Tls;
    "client-key-file" Value Tls;
    "client-crl-file" Value Tls;
    "client-cert-allowed-hostname" Value Tls;
    "trusted-ca-file" Value Tls;
    "auto-tls" Switch Tls;
    "peer-cert-file" Value Tls;
    "peer-key-file" Value Tls;
    "peer-client-cert-auth" Switch Tls;
    "peer-client-cert-file" Value Tls;
    "peer-client-key-file" Value Tls;
    "peer-trusted-ca-file" Value Tls;
    "peer-auto-tls" Switch Tls;
    "peer-crl-file" Value Tls;
    "peer-cert-allowed-cn" Value Tls;
    "peer-cert-allowed-hostname" Value Tls;
    "peer-skip-client-san-verification" Switch Ignored("peers don't use TLS yet");
    "cipher-suites" Value Ignored("TLS comes in a later release");
    "tls-min-version" Value Ignored("TLS comes in a later release");
    "tls-max-version" Value Ignored("TLS comes in a later release");
    "self-signed-cert-validity" Value Ignored("TLS comes in a later release");

    "force-new-cluster" Switch Refused("recovery from a lost majority comes in a later release");
    "config-file" Value Refused("configuration files are not supported: use flags or ETCD_* variables");
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

    "auth-token" Value Ignored(AUTH);
    "auth-token-ttl" Value Ignored(AUTH);
    "bcrypt-cost" Value Ignored(AUTH);

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
    "enable-grpc-gateway" Switch Ignored("the JSON mapping comes in a later release");
    "enable-pprof" Switch Ignored(GO);
    "metrics" Value Ignored("every metric is always there");
    "cors" Value Ignored(GO);
    "host-whitelist" Value Ignored(GO);
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

/// What a flag that etcd does not have is for; `None` for etcd's.
pub(super) fn meaning(flag: &str) -> Option<&'static str> {
    Some(match flag {
        "engine" => {
            "the consensus algorithm, the same on all members: raft or multi-paxos; by default what the data directory \
             was made with, raft for a new one"
        }
        "restore-snapshot" => {
            "begin a new cluster with what this file holds, which `etcdctl snapshot save` wrote; the same file on all \
             members, whose data directories are empty"
        }
        "linearizable-read" => {
            "how a linearizable read is confirmed: read-index (default) or lease"
        }
        "io-threads" => "threads that serve connections; 0 (default): by the number of processors",
        "cache-bytes" => "the engine's block cache in bytes; 67108864 by default",
        "feature-level" => {
            "the highest feature level that this member lets the cluster use; the release's by default"
        }
        "response-budget-bytes" => {
            "memory for large responses, until they have left, in bytes; 268435456 by default"
        }
        _ => return None,
    })
}

/// The flag of this name.
fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// One flag as it was given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) name: String,
    /// `None`: an `--experimental-*` flag, which are all ignored.
    pub(super) flag: Option<&'static Flag>,
    pub(super) value: String,
}

/// Splits a command line (without the program's name).
///
/// # Errors
/// An unknown flag, one without its value, or a word that belongs to no flag.
pub(super) fn split(args: &[String]) -> Result<Vec<Given>, ConfigError> {
    let mut given = Vec::with_capacity(args.len());
    let mut rest = args.iter().peekable();
    while let Some(arg) = rest.next() {
        let text = arg
            .strip_prefix("--")
            .or_else(|| arg.strip_prefix('-'))
            .filter(|text| !text.is_empty())
            .ok_or_else(|| ConfigError::Stray { word: arg.clone() })?;
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let name = if name == "h" { "help" } else { name };
        let flag = find(name);
        if flag.is_none() && !name.starts_with("experimental-") {
            return Err(ConfigError::UnknownFlag {
                flag: name.to_owned(),
                near: near(name),
            });
        }
        let value = match (inline, flag.map(|flag| flag.kind)) {
            (Some(value), _) => value,
            (None, Some(Switch)) => "true".to_owned(),
            (None, Some(Value)) => {
                rest.next()
                    .cloned()
                    .ok_or_else(|| ConfigError::MissingValue {
                        flag: name.to_owned(),
                    })?
            }
            // Whether an experimental flag takes a value is not known: the next word is its value
            // unless it looks like a flag.
            (None, None) => rest
                .next_if(|next| !next.starts_with('-'))
                .cloned()
                .unwrap_or_default(),
        };
        given.push(Given {
            name: name.to_owned(),
            flag,
            value,
        });
    }
    Ok(given)
}

/// What the environment sets: `ETCD_NAME`, `ETCD_DATA_DIR`, ... Empty values count as unset, as in
/// etcd.
pub(super) fn from_environment(env: &dyn Fn(&str) -> Option<String>) -> Vec<Given> {
    FLAGS
        .iter()
        .filter(|flag| !matches!(flag.name, "version" | "help"))
        .filter_map(|flag| {
            let set = |name: String| env(&name).filter(|value| !value.is_empty());
            let value = own_variable(flag.name)
                .and_then(set)
                .or_else(|| set(variable(flag.name)))?;
            Some(Given {
                name: flag.name.to_owned(),
                flag: Some(flag),
                value,
            })
        })
        .collect()
}

/// The environment variable of a flag, with etcd's prefix.
pub(super) fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// The variable of a flag that etcd does not have, which wins over the one with etcd's prefix.
fn own_variable(flag: &str) -> Option<String> {
    meaning(flag)?;
    let name = variable(flag);
    Some(format!("SYNOD_{}", name.strip_prefix("ETCD_")?))
}

/// Up to three flags whose names are close to `name`.
fn near(name: &str) -> Vec<&'static str> {
    let limit = (name.len() / 3).max(2);
    let mut close: Vec<(usize, &'static str)> = FLAGS
        .iter()
        .filter_map(|flag| {
            let distance = if flag.name.contains(name) && name.len() >= 4 {
                1
            } else {
                edit_distance(name, flag.name)
            };
            (distance <= limit).then_some((distance, flag.name))
        })
        .collect();
    close.sort_unstable();
    close.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_stands_once() {
        let mut names: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(before, names.len());
    }

    #[test]
    fn our_own_flags_have_our_own_variables() {
        for flag in [
            "engine",
            "linearizable-read",
            "io-threads",
            "cache-bytes",
            "response-budget-bytes",
            "feature-level",
        ] {
            assert!(find(flag).is_some(), "{flag}");
        }
        assert_eq!(
            own_variable("io-threads").as_deref(),
            Some("SYNOD_IO_THREADS")
        );
        assert_eq!(own_variable("name"), None);
        let env = |name: &str| match name {
            "SYNOD_ENGINE" => Some("multi-paxos".to_owned()),
            "ETCD_ENGINE" | "SYNOD_NAME" => Some("raft".to_owned()),
            _ => None,
        };
        let given = from_environment(&env);
        let given: Vec<_> = given
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_str()))
            .collect();
        assert_eq!(given, [("engine", "multi-paxos")]);
    }

    #[test]
    fn near_matches_are_few_and_close() {
        assert_eq!(near("listen-client-url")[0], "listen-client-urls");
        assert_eq!(near("datadir")[0], "data-dir");
        assert!(near("zzzzzzzzzzzz").is_empty());
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
