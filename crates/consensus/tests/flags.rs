//! The command line and the environment. What tools for etcd pass must work, and mistakes must be
//! named.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use synod_consensus::{Algorithm, ClusterState, Config, Durability, LinearizableRead};
use synod_rpc::{AccessControl, Allowed};
use synod_service::Retention;
use synod_service::config::{ConfigError, Launch};

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Launch<Config>, ConfigError> {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let env: HashMap<String, String> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::parse(&args, &|name| env.get(name).cloned())
}

fn config(args: &[&str]) -> Config {
    match parse(args, &[]) {
        Ok(Launch::Run(config)) => *config,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn error(args: &[&str]) -> String {
    match parse(args, &[]) {
        Err(error) => error.to_string(),
        Ok(launch) => panic!("{args:?} was accepted: {launch:?}"),
    }
}

#[test]
fn the_defaults_are_etcds() {
    let config = config(&[]);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, Path::new("default.etcd"));
    assert_eq!(config.listen_client_urls, ["http://localhost:2379"]);
    assert_eq!(config.listen_peer_urls, ["http://localhost:2380"]);
    assert!(config.listen_metrics_urls.is_empty());
    assert_eq!(config.initial_cluster["default"], ["http://localhost:2380"]);
    assert_eq!(config.initial_cluster_state, ClusterState::New);
    assert_eq!(config.initial_cluster_token, "etcd-cluster");
    assert_eq!(config.heartbeat, Duration::from_millis(100));
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.quota_bytes, 2 << 30);
    assert_eq!(config.max_request_bytes, 1_572_864);
    assert_eq!(config.max_txn_ops, 128);
    assert_eq!(config.auto_compaction, Retention::Everything);
    assert_eq!(config.durability, Durability::Synced);
    assert_eq!(config.linearizable_read, LinearizableRead::ReadIndex);
    assert_eq!(config.request_timeout(), Duration::from_secs(7));
    assert_eq!(config.min_lease_ttl(), 2);
    assert!(config.strict_reconfig_check && config.pre_vote);
    assert!(config.enable_grpc_gateway);
    assert_eq!(config.access, AccessControl::default());
}

#[test]
fn access_over_http_is_limited_by_flags_and_by_a_file() {
    let these =
        |words: &[&str]| Allowed::These(words.iter().map(|word| (*word).to_owned()).collect());
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "cors: http://a.example:8080,https://b.example\n\
                host-whitelist: localhost,::1\nenable-grpc-gateway: false\n";
    std::fs::write(file.path(), text).unwrap();
    let by_flags = [
        "--cors=http://a.example:8080,https://b.example",
        "--host-whitelist",
        "localhost,::1",
        "--enable-grpc-gateway=false",
    ];
    let by_file = ["--config-file", file.path().to_str().unwrap()];
    for args in [&by_flags[..], &by_file] {
        let config = config(args);
        assert_eq!(
            config.access.origins,
            these(&["http://a.example:8080", "https://b.example"])
        );
        assert_eq!(config.access.hosts, these(&["localhost", "::1"]));
        assert!(!config.enable_grpc_gateway && config.without_effect.is_empty());
    }
    let open = config(&["--cors=*", "--host-whitelist="]);
    assert_eq!(open.access, AccessControl::default());
    let refused = error(&["--cors=a.example"]);
    assert!(
        refused.contains("\"a.example\" is not an origin"),
        "{refused}"
    );
}

#[test]
fn the_command_line_of_a_chart_is_accepted() {
    let config = config(&[
        "--name=etcd-0",
        "--data-dir",
        "/bitnami/etcd/data",
        "--listen-client-urls=http://0.0.0.0:2379",
        "--advertise-client-urls=http://etcd-0.etcd:2379",
        "--listen-peer-urls=http://0.0.0.0:2380",
        "--initial-advertise-peer-urls=http://etcd-0.etcd:2380",
        "--initial-cluster=etcd-0=http://etcd-0.etcd:2380,etcd-1=http://etcd-1.etcd:2380",
        "--initial-cluster-state=existing",
        "--initial-cluster-token",
        "token-1",
        "--listen-metrics-urls=http://0.0.0.0:2381",
        "-heartbeat-interval",
        "50",
        "-election-timeout=500",
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1000",
        "--quota-backend-bytes=53248",
        "--snapshot-count=200",
        "--max-txn-ops=1000",
        "--strict-reconfig-check=false",
        "--pre-vote",
        "--unsafe-no-fsync",
        "--auth-token=jwt,priv-key=k,sign-method=ES256",
        "--auth-token-ttl=60",
        "--bcrypt-cost=5",
        "--logger=zap",
        "--log-level=debug",
        "--feature-gates=A=true",
        "--corrupt-check-time=1h",
        "--experimental-initial-corrupt-check",
        "--experimental-watch-progress-notify-interval",
        "5s",
        "--watch-progress-notify-interval=5s",
        "--linearizable-read=lease",
        "--engine=multi-paxos",
        "--cert-file=",
        "--client-cert-auth=false",
    ]);
    assert_eq!(config.name, "etcd-0");
    assert_eq!(config.initial_cluster.len(), 2);
    assert_eq!(config.initial_cluster_state, ClusterState::Existing);
    assert_eq!(config.auto_compaction, Retention::Last(1000));
    assert_eq!(config.quota_bytes, 53_248);
    assert_eq!(config.watch_progress_interval, Duration::from_secs(5));
    assert_eq!(config.linearizable_read, LinearizableRead::Lease);
    assert_eq!(config.algorithm, Some(Algorithm::MultiPaxos));
    assert_eq!(config.durability, Durability::Unsynced);
    assert!(!config.strict_reconfig_check);
    assert_eq!(config.auth.token, "jwt,priv-key=k,sign-method=ES256");
    assert_eq!(config.auth.token_ttl, Duration::from_secs(60));
    assert_eq!(config.auth.bcrypt_cost, 5);
    let ignored: Vec<&str> = config
        .without_effect
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        ignored,
        [
            "logger",
            "feature-gates",
            "corrupt-check-time",
            "experimental-initial-corrupt-check",
            "experimental-watch-progress-notify-interval",
        ]
    );
}

#[test]
fn flags_win_over_the_environment() {
    let env = [
        ("ETCD_NAME", "env"),
        ("ETCD_MAX_TXN_OPS", "7"),
        ("ETCD_UNSAFE_NO_FSYNC", "true"),
        ("ETCD_LOG_LEVEL", ""),
        ("ETCD_UNRELATED", "x"),
        ("SYNOD_ENGINE", "multi-paxos"),
    ];
    let Ok(Launch::Run(config)) = parse(&["--max-txn-ops", "9"], &env) else {
        panic!("refused");
    };
    assert_eq!(config.name, "env");
    assert_eq!(config.data_dir, Path::new("env.etcd"));
    assert_eq!(config.initial_cluster["env"], ["http://localhost:2380"]);
    assert_eq!(config.max_txn_ops, 9);
    assert_eq!(config.algorithm, Some(Algorithm::MultiPaxos));
    assert_eq!(config.durability, Durability::Unsynced);
    assert!(parse(&[], &[("ETCD_CERT_FILE", "/cert")]).is_err());
}

#[test]
fn derived_urls_follow_the_listeners() {
    let config = config(&[
        "--listen-client-urls=http://127.0.0.1:1",
        "--listen-peer-urls=http://127.0.0.1:2",
    ]);
    assert_eq!(config.advertise_client_urls, ["http://127.0.0.1:1"]);
    assert_eq!(config.initial_cluster["default"], ["http://127.0.0.1:2"]);
    assert!(error(&["--listen-client-urls=http://0.0.0.0:1"]).contains("--advertise-client-urls"));
}

#[test]
fn retention_takes_hours_durations_or_revisions() {
    for (args, expected) in [
        (
            vec!["--auto-compaction-retention=1"],
            Retention::Period(Duration::from_secs(3600)),
        ),
        (
            vec!["--auto-compaction-retention=5m"],
            Retention::Period(Duration::from_secs(300)),
        ),
        (
            vec![
                "--auto-compaction-mode=revision",
                "--auto-compaction-retention=3",
            ],
            Retention::Last(3),
        ),
        (
            vec!["--auto-compaction-mode=revision"],
            Retention::Everything,
        ),
    ] {
        assert_eq!(config(&args).auto_compaction, expected, "{args:?}");
    }
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    for (args, parts) in [
        (
            vec!["--listen-client-url=http://a:1"],
            vec!["unknown flag --listen-client-url", "--listen-client-urls"],
        ),
        (
            vec!["--qwertyuiop"],
            vec!["unknown flag --qwertyuiop", "--help"],
        ),
        (vec!["serve"], vec!["\"serve\" is not a flag"]),
        (
            vec!["--pre-vote", "false"],
            vec!["\"false\"", "--flag=false"],
        ),
        (vec!["--name"], vec!["--name needs a value"]),
        (
            vec!["--max-txn-ops=many"],
            vec!["--max-txn-ops", "many", "whole number"],
        ),
        (vec!["--cert-file=/x"], vec!["--cert-file and --key-file"]),
        (
            vec!["--listen-client-urls=https://a:1"],
            vec!["https://a:1 needs a certificate", "--auto-tls"],
        ),
        (
            vec!["--initial-cluster=default=https://a:1"],
            vec!["https://a:1 needs --peer-trusted-ca-file"],
        ),
        (vec!["--tls-min-version=TLS1.0"], vec!["TLS1.2 or TLS1.3"]),
        (
            vec!["--listen-peer-urls=http://a:1,unix://"],
            vec!["names no path"],
        ),
        (vec!["--engine=zab"], vec!["zab", "raft or multi-paxos"]),
        (
            vec!["--force-new-cluster"],
            vec!["--force-new-cluster", "later"],
        ),
        (
            vec!["--config-file=/nowhere"],
            vec!["/nowhere", "No such file"],
        ),
        (
            vec!["--election-timeout=300"],
            vec!["--election-timeout 300", "five times"],
        ),
        (
            vec!["--max-request-bytes=33554433"],
            vec!["--max-request-bytes 33554433", "over 33554432"],
        ),
        (
            vec!["--initial-cluster=a=http://a:1"],
            vec!["\"default\"", "a"],
        ),
        (
            vec!["--initial-cluster=default=http://a:1"],
            vec!["--initial-advertise-peer-urls", "http://a:1"],
        ),
        (vec!["--initial-cluster-state=old"], vec!["new or existing"]),
        (
            vec!["--auto-compaction-mode=monthly"],
            vec!["periodic or revision"],
        ),
    ] {
        let text = error(&args);
        for part in parts {
            assert!(text.contains(part), "{args:?}: {text:?} lacks {part:?}");
        }
    }
}

#[test]
fn version_and_help_print_and_win_over_everything() {
    let Ok(Launch::Print(text)) = parse(&["--version", "--name=x"], &[]) else {
        panic!("not printed");
    };
    assert!(text.starts_with("etcd Version: 3."), "{text}");
    let Ok(Launch::Print(text)) = parse(&["-h"], &[]) else {
        panic!("not printed");
    };
    assert!(text.contains("--data-dir VALUE"), "{text}");
    assert!(text.contains("raft or multi-paxos"), "{text}");
    assert!(text.contains("SYNOD_ENGINE"), "{text}");
}

#[test]
fn a_connection_has_a_bounded_number_of_streams_unless_told_otherwise() {
    let streams = |args: &[&str]| config(args).max_concurrent_streams;
    assert_eq!(streams(&[]), 4_096);
    assert_eq!(streams(&["--max-concurrent-streams=100"]), 100);
    // etcd's default: no limit.
    assert_eq!(streams(&["--max-concurrent-streams=4294967295"]), u32::MAX);
    assert!(error(&["--max-concurrent-streams=0"]).contains("max-concurrent-streams"));
}

/// The file that k3s writes for its etcd, and settings that other tools write.
#[test]
fn a_file_stands_for_all_flags() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "advertise-client-urls: https://10.0.0.1:2379\n\
                client-transport-security:\n  cert-file: /tls/server.crt\n  client-cert-auth: true\n  \
                key-file: /tls/server.key\n  trusted-ca-file: /tls/ca.crt\n\
                data-dir: /var/lib/db/etcd\nelection-timeout: 5000\nheartbeat-interval: 500\n\
                experimental-initial-corrupt-check: true\n\
                watch-progress-notify-interval: 5000000000\n\
                listen-client-urls: https://127.0.0.1:2379,https://10.0.0.1:2379\n\
                listen-metrics-urls: http://127.0.0.1:2381\n\
                listen-peer-urls: https://127.0.0.1:2380,https://10.0.0.1:2380\n\
                initial-advertise-peer-urls: https://10.0.0.1:2380\n\
                initial-cluster: server-1=https://10.0.0.1:2380\nlog-outputs:\n- stderr\nlogger: zap\n\
                name: server-1\npeer-transport-security:\n  cert-file: /tls/peer.crt\n  \
                client-cert-auth: true\n  key-file: /tls/peer.key\n  trusted-ca-file: /tls/peer-ca.crt\n  \
                allowed-cn: etcd-peer\nsnapshot-count: 10000\nproxy: 'off'\n";
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let with_flag = parse(
        &["--config-file", path, "--name=other"],
        &[("ETCD_DATA_DIR", "/x")],
    );
    let with_variable = parse(&[], &[("ETCD_CONFIG_FILE", path)]);
    for launch in [with_flag, with_variable] {
        let Ok(Launch::Run(config)) = launch else {
            panic!("{launch:?}")
        };
        assert_eq!(config.name, "server-1");
        assert_eq!(config.data_dir, Path::new("/var/lib/db/etcd"));
        assert_eq!(config.listen_peer_urls.len(), 2);
        assert_eq!(config.election_timeout, Duration::from_secs(5));
        assert_eq!(config.watch_progress_interval, Duration::from_secs(5));
        let peers = &config.peer_tls;
        assert_eq!(
            peers.trusted_ca_file.as_deref(),
            Some(Path::new("/tls/peer-ca.crt"))
        );
        assert_eq!(peers.allowed_common_names, ["etcd-peer"]);
        assert!(config.client_tls.client_cert_auth);
        let ignored: Vec<_> = config
            .without_effect
            .iter()
            .map(|(flag, _)| flag.as_str())
            .collect();
        assert!(
            ignored.contains(&"proxy") && ignored.contains(&"logger"),
            "{ignored:?}"
        );
    }
    std::fs::write(file.path(), "name: a,b\n").unwrap();
    assert!(error(&["--config-file", path]).contains("without commas"));
}
