//! The configuration: the command line and `SYNOD_*` variables.

use std::path::PathBuf;

use synod_coordination_core::Id;
use synod_rpc::{ChannelConfig, Listener, ServerTls, TlsError};
use synod_runtime::reload::Reloading;
use synod_service::config::{
    CommandLine, ConfigError, Flag, Launch, LogFormat, Side, TlsCommon, TlsFlags, value,
};

use crate::discovery::Networks;
use crate::dns::Zone;
use crate::endpoint::Servers;
use crate::sasl::{Users, UsersError};
use crate::zookeeper::{Limits, Sasl, Whitelist};

mod endpoint;

pub use endpoint::{EndpointFlags, User};

/// A resolver keeps no answer for longer than a day.
const MAX_DNS_TTL_S: u32 = 86_400;

/// The configuration of a pod; immutable once it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pod's name in logs and traces.
    pub name: String,
    /// The servers of the consensus service, or of any etcd v3 endpoint: URLs.
    pub endpoints: Vec<String>,
    /// What those servers are shown, and whom they must be.
    pub endpoint: EndpointFlags,
    /// The start of all keys. Pods with the same root and endpoint are one service.
    pub root: String,
    /// Where ZooKeeper's clients connect: addresses.
    pub listen_zookeeper: Vec<String>,
    /// Where ZooKeeper's clients connect with TLS: addresses.
    pub listen_zookeeper_tls: Vec<String>,
    /// The certificate that those clients see, and those of `https://` URLs, and what they must
    /// show.
    pub tls: TlsFlags,
    /// What other pods are shown at their `https://` URLs, and whom they must be.
    pub peer_tls: TlsFlags,
    /// Versions and cipher suites of TLS.
    pub tls_common: TlsCommon,
    /// Where gRPC's clients and other pods connect: URLs.
    pub listen_urls: Vec<String>,
    /// Where other pods reach this one: a URL. By default the first of `listen_urls`.
    pub advertise_url: Option<String>,
    /// Where health and metrics are served, besides `listen_urls`: URLs.
    pub listen_metrics_urls: Vec<String>,
    /// Where resolvers ask for services, over UDP and TCP: addresses.
    pub listen_dns: Vec<String>,
    /// The zone of the DNS.
    pub dns_domain: String,
    /// How long resolvers may keep answers, in seconds.
    pub dns_ttl_s: u32,
    /// The networks in which health checks may connect to instances.
    pub check_allow: Networks,
    /// ZooKeeper's unit of time, in milliseconds. A session's timeout is 2 to 20 of them.
    pub tick_ms: u32,
    /// The largest request of a ZooKeeper client, in bytes.
    pub max_request_bytes: usize,
    /// Connections of ZooKeeper clients at once.
    pub max_connections: usize,
    /// Connections of ZooKeeper clients from one address at once; zero: no limit.
    pub max_connections_per_address: usize,
    /// The four-letter words that are answered.
    pub words: Whitelist,
    /// The user and the digest of who may do everything, `super:DIGEST` as ZooKeeper has it.
    pub super_digest: Option<String>,
    /// The users that can log in with SASL: a file.
    pub sasl_users_file: Option<PathBuf>,
    /// Whether ZooKeeper's clients have to log in with SASL.
    pub require_sasl: bool,
    /// Threads that serve connections; zero: one for each processor, up to 8.
    pub io_threads: usize,
    /// Level and format of the log.
    pub log: LogFormat,
}

const FLAGS: CommandLine = CommandLine {
    flags: &[
        Flag::value("name", "the pod's name in logs and traces"),
        Flag::value(
            "endpoints",
            "URLs of the consensus service, or of any etcd v3 service",
        ),
        Flag::value(
            "endpoint-trusted-ca-file",
            "authority that those servers' certificates must be of",
        ),
        Flag::value("endpoint-cert-file", "certificate that they are shown"),
        Flag::value("endpoint-key-file", "key of that certificate"),
        Flag::value(
            "endpoint-user",
            "who logs in there, NAME:PASSWORD; rather by SYNOD_ENDPOINT_USER",
        ),
        Flag::value(
            "root",
            "prefix of all keys; pods with the same one are one service",
        ),
        Flag::value(
            "listen-zookeeper",
            "addresses for ZooKeeper's clients: 0.0.0.0:2181",
        ),
        Flag::value(
            "listen-zookeeper-tls",
            "addresses for ZooKeeper's clients with TLS (secureClientPort)",
        ),
        Flag::value(
            "cert-file",
            "certificate of the addresses with TLS and of https:// URLs",
        ),
        Flag::value("key-file", "key of that certificate"),
        Flag::value(
            "trusted-ca-file",
            "authority whose certificates clients must show",
        ),
        Flag::switch("client-cert-auth", "clients must show a certificate"),
        Flag::value("client-crl-file", "certificates that are revoked"),
        Flag::value(
            "client-cert-allowed-hostname",
            "names of which clients' certificates must have one",
        ),
        Flag::switch("auto-tls", "make a certificate at each start"),
        Flag::value(
            "peer-trusted-ca-file",
            "authority that other pods' certificates must be of",
        ),
        Flag::value("peer-cert-file", "certificate that other pods are shown"),
        Flag::value("peer-key-file", "key of that certificate"),
        Flag::value("peer-crl-file", "certificates of pods that are revoked"),
        Flag::value(
            "peer-cert-allowed-cn",
            "common names of which pods' certificates must have one",
        ),
        Flag::value(
            "peer-cert-allowed-hostname",
            "host names of which pods' certificates must have one",
        ),
        Flag::value("tls-min-version", "TLS1.2 or TLS1.3"),
        Flag::value("tls-max-version", "TLS1.2 or TLS1.3"),
        Flag::value("cipher-suites", "cipher suites of TLS 1.2"),
        Flag::value(
            "self-signed-cert-validity",
            "years for which the certificate of --auto-tls is valid",
        ),
        Flag::value("listen-urls", "URLs for gRPC's clients and other pods"),
        Flag::value(
            "advertise-url",
            "URL at which other pods reach this one; by default the first listen URL",
        ),
        Flag::value("listen-metrics-urls", "further URLs for health and metrics"),
        Flag::value(
            "listen-dns",
            "addresses at which services are found by DNS: 127.0.0.1:2153; by default none",
        ),
        Flag::value(
            "dns-domain",
            "the zone: services are NAME.service.synod. in the zone synod.",
        ),
        Flag::value("dns-ttl", "seconds for which resolvers may keep answers"),
        Flag::value(
            "check-allow",
            "networks in which health checks may connect; by default the private ones",
        ),
        Flag::value(
            "tick-time",
            "milliseconds; a session's timeout is 2 to 20 of these",
        ),
        Flag::value(
            "max-request-bytes",
            "largest request of a ZooKeeper client (jute.maxbuffer)",
        ),
        Flag::value(
            "max-connections",
            "connections of ZooKeeper clients at once",
        ),
        Flag::value(
            "max-connections-per-address",
            "those from one address; 0: no limit (maxClientCnxns)",
        ),
        Flag::value(
            "4lw-whitelist",
            "four-letter words that are answered, or * (4lw.commands.whitelist)",
        ),
        Flag::value(
            "super-digest",
            "user and digest of who may do everything: super:BASE64 (superDigest)",
        ),
        Flag::value(
            "sasl-users-file",
            "users that can log in with SASL DIGEST-MD5: lines USER:PASSWORD or USER:{HA1}DIGITS",
        ),
        Flag::switch(
            "require-sasl",
            "ZooKeeper clients must log in with SASL (sessionRequireClientSASLAuth)",
        ),
        Flag::value(
            "io-threads",
            "threads that serve connections; 0: one for each processor, up to 8",
        ),
        Flag::value("log-level", "debug, info, warn or error"),
        Flag::value("log-format", "json or console"),
        Flag::switch("help", "print this"),
        Flag::switch("version", "print the release"),
    ],
    ignored: None,
};

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            name: "default".to_owned(),
            endpoints: vec!["http://localhost:2379".to_owned()],
            endpoint: EndpointFlags::default(),
            root: "/synod/coordination/".to_owned(),
            listen_zookeeper: vec!["127.0.0.1:2181".to_owned()],
            listen_zookeeper_tls: Vec::new(),
            tls: TlsFlags::new(Side::Clients),
            peer_tls: TlsFlags::new(Side::Peers),
            tls_common: TlsCommon::default(),
            listen_urls: vec!["http://localhost:2190".to_owned()],
            advertise_url: None,
            listen_metrics_urls: vec!["http://localhost:2191".to_owned()],
            listen_dns: Vec::new(),
            dns_domain: "synod.".to_owned(),
            dns_ttl_s: 5,
            check_allow: Networks::default(),
            tick_ms: 2_000,
            max_request_bytes: limits.max_request_bytes,
            max_connections: limits.max_connections,
            max_connections_per_address: limits.max_connections_per_address,
            words: Whitelist::default(),
            super_digest: None,
            sasl_users_file: None,
            require_sasl: false,
            io_threads: 0,
            log: LogFormat::default(),
        }
    }
}

impl Config {
    /// Reads a command line (without the program's name) and the environment.
    ///
    /// # Errors
    /// Says which flag or variable is wrong, and what would be right.
    pub fn parse(
        args: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Launch<Self>, ConfigError> {
        let given = FLAGS.read(args, env)?;
        if given.has("help") {
            return Ok(Launch::Print(FLAGS.list(|_| true)));
        }
        if given.has("version") {
            let version = synod_service::VERSION;
            return Ok(Launch::Print(format!("synod-coordination {version}\n")));
        }
        let mut config = Self::default();
        given.apply(|flag, text| config.set(flag, text))?;
        config.validate()?;
        Ok(Launch::Run(Box::new(config)))
    }

    fn set(&mut self, flag: &str, text: &str) -> Result<(), ConfigError> {
        let bad = |expected: String| ConfigError::invalid(flag, text, &expected);
        match flag {
            "name" => self.name = text.to_owned(),
            "endpoints" => self.endpoints = value::urls(text).map_err(bad)?,
            "root" => self.root = text.to_owned(),
            "listen-zookeeper" => self.listen_zookeeper = value::list(text),
            "listen-zookeeper-tls" => self.listen_zookeeper_tls = value::list(text),
            "listen-urls" => self.listen_urls = value::urls(text).map_err(bad)?,
            "advertise-url" => {
                self.advertise_url = Some(value::check_url(text).map_err(bad)?);
            }
            "listen-metrics-urls" => {
                self.listen_metrics_urls = value::urls(text).map_err(bad)?;
            }
            "listen-dns" => self.listen_dns = value::list(text),
            "dns-domain" => {
                Zone::parse(text, 0).map_err(bad)?;
                self.dns_domain = text.to_owned();
            }
            "dns-ttl" => {
                let seconds = value::number(text, 0).map_err(bad)?;
                if seconds > MAX_DNS_TTL_S {
                    return Err(bad("at most 86400".to_owned()));
                }
                self.dns_ttl_s = seconds;
            }
            "check-allow" => self.check_allow = Networks::parse(text).map_err(bad)?,
            "tick-time" => self.tick_ms = value::number(text, 10).map_err(bad)?,
            "max-request-bytes" => {
                self.max_request_bytes = value::number(text, 1_024).map_err(bad)?;
            }
            "max-connections" => self.max_connections = value::number(text, 1).map_err(bad)?,
            "max-connections-per-address" => {
                self.max_connections_per_address = value::number(text, 0).map_err(bad)?;
            }
            "4lw-whitelist" => self.words = Whitelist::parse(text).map_err(bad)?,
            "super-digest" => {
                if text
                    .split_once(':')
                    .is_none_or(|(_, digest)| digest.is_empty())
                {
                    return Err(bad("a user and a digest: super:BASE64".to_owned()));
                }
                self.super_digest = Some(text.to_owned());
            }
            "sasl-users-file" => self.sasl_users_file = Some(PathBuf::from(text)),
            "require-sasl" => self.require_sasl = value::boolean(text).map_err(bad)?,
            "io-threads" => self.io_threads = value::number(text, 0).map_err(bad)?,
            "log-level" => self.log.level = value::log_level(text).map_err(bad)?,
            "log-format" => self.log.json = Some(value::log_format(text).map_err(bad)?),
            _ => {
                let is_read = self.endpoint.set(flag, text)?
                    || self.tls.set(flag, text)?
                    || self.peer_tls.set(flag, text)?
                    || self.tls_common.set(flag, text)?;
                debug_assert!(is_read, "flag {flag} is not read");
            }
        }
        Ok(())
    }

    /// Checks what no single flag shows.
    ///
    /// # Errors
    /// Says what is missing or contradicts what.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let missing = |flag: &str, what: &str| {
            let text = format!("--{flag} is empty: name {what}");
            Err(ConfigError::Contradiction(text))
        };
        if self.endpoints.is_empty() {
            return missing("endpoints", "the URLs of the consensus service");
        }
        self.endpoint.check(&self.endpoints)?;
        if self.listen_urls.is_empty() {
            return missing("listen-urls", "a URL, at which other pods reach this one");
        }
        if self.root.trim_end_matches('/').is_empty() {
            return missing("root", "a prefix of the keys, such as /synod/coordination");
        }
        if self.require_sasl && self.sasl_users_file.is_none() {
            return Err(ConfigError::Contradiction(
                "--require-sasl without users: name their file with --sasl-users-file".to_owned(),
            ));
        }
        self.zone()?;
        self.tls.check(&self.tls_urls())?;
        self.peer_tls.check(&[])?;
        let advertised = self.advertise_url.as_ref().or(self.listen_urls.first());
        if let Some(url) = advertised.filter(|url| value::is_tls(url))
            && self.peer_tls.trusted_ca_file.is_none()
        {
            return Err(ConfigError::Contradiction(format!(
                "pods dial each other at URLs such as {url}: name the authority of their certificates with \
                 --peer-trusted-ca-file"
            )));
        }
        if self.advertise_url.is_none() {
            value::dialable("listen-urls", &self.listen_urls[..1]).map_err(|_| {
                ConfigError::Contradiction(format!(
                    "--listen-urls {} names no host that other pods can dial: name one with --advertise-url",
                    self.listen_urls[0]
                ))
            })?;
        }
        Ok(())
    }

    /// The zone of the DNS.
    ///
    /// # Errors
    /// The domain is none.
    pub(crate) fn zone(&self) -> Result<Zone, ConfigError> {
        let zone = Zone::parse(&self.dns_domain, self.dns_ttl_s);
        zone.map_err(|expected| ConfigError::invalid("dns-domain", &self.dns_domain, &expected))
    }

    /// Where other pods reach this one. A port that the system chose is that of the listener.
    pub(crate) fn advertised(&self, listeners: &[Listener]) -> String {
        let bound = listeners.first().map(Listener::url);
        self.advertise_url.clone().or(bound).unwrap_or_default()
    }

    /// The servers of the endpoint.
    ///
    /// # Errors
    /// Names the file that can't be used.
    pub(crate) fn servers(&self) -> Result<Servers, TlsError> {
        Ok(Servers {
            urls: self.endpoints.clone(),
            tls: self.endpoint.client(&self.tls_common)?,
            user: self.endpoint.user.clone(),
        })
    }

    /// How other pods are reached.
    ///
    /// # Errors
    /// Names the file that can't be used.
    pub(crate) fn channels(&self) -> Result<ChannelConfig, TlsError> {
        Ok(ChannelConfig {
            tls: self.peer_tls.client(&self.tls_common)?,
            ..ChannelConfig::default()
        })
    }

    /// What the addresses with TLS and the `https://` URLs show and ask for.
    ///
    /// # Errors
    /// Names the file that can't be used.
    pub(crate) fn server_tls(&self) -> Result<Option<ServerTls>, TlsError> {
        self.tls.server(&self.tls_common, &self.tls_urls())
    }

    /// The flags of TLS are about URLs.
    fn tls_urls(&self) -> Vec<String> {
        let addresses = self.listen_zookeeper_tls.iter();
        let urls = self.listen_urls.iter().chain(&self.listen_metrics_urls);
        addresses
            .map(|address| format!("https://{address}"))
            .chain(urls.filter(|url| value::is_tls(url)).cloned())
            .collect()
    }

    /// How clients can log in with SASL.
    ///
    /// # Errors
    /// Says what is wrong with the file of users.
    pub(crate) fn sasl(&self) -> Result<Sasl, UsersError> {
        let users = self.sasl_users_file.clone().map(|file| {
            let read = file.clone();
            let make = move || Users::read(&read);
            Reloading::new("users of SASL", vec![file], make)
        });
        Ok(Sasl {
            users: users.transpose()?,
            is_required: self.require_sasl,
        })
    }

    pub(crate) fn super_user(&self) -> Option<Id> {
        let digest = self.super_digest.as_deref()?;
        Some(Id::new("digest", digest))
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            min_session_timeout_ms: self.tick_ms.saturating_mul(2),
            max_session_timeout_ms: self.tick_ms.saturating_mul(20),
            max_request_bytes: self.max_request_bytes,
            max_connections: self.max_connections,
            max_connections_per_address: self.max_connections_per_address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        match Config::parse(&args, &|_| None) {
            Ok(Launch::Run(config)) => Ok(*config),
            Ok(Launch::Print(text)) => Err(text),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn flags_are_read() {
        let config = parse(&[
            "--endpoints=http://a:2379,http://b:2379",
            "--tick-time=500",
            "--listen-zookeeper=0.0.0.0:2181,[::1]:2181",
            "--listen-urls=http://0.0.0.0:2190",
            "--advertise-url=http://pod-0:2190",
        ])
        .unwrap();
        assert_eq!(config.endpoints, ["http://a:2379", "http://b:2379"]);
        assert_eq!(config.listen_zookeeper, ["0.0.0.0:2181", "[::1]:2181"]);
        let limits = config.limits();
        assert_eq!(limits.min_session_timeout_ms, 1_000);
        assert_eq!(limits.max_session_timeout_ms, 10_000);
        assert_eq!(config.advertised(&[]), "http://pod-0:2190");
    }

    #[test]
    fn mistakes_are_named() {
        for (args, expected) in [
            (&["--endpoints="][..], "--endpoints is empty"),
            (
                &["--endpoints=https://a:2379"],
                "--endpoint-trusted-ca-file",
            ),
            (&["--endpoint-trusted-ca-file=ca"], "must be https://"),
            (&["--endpoint-cert-file=c"], "--endpoint-key-file"),
            (&["--endpoint-user=name"], "NAME:PASSWORD"),
            (&["--listen-urls=https://a:2190"], "--cert-file"),
            (
                &["--advertise-url=https://a:2190"],
                "--peer-trusted-ca-file",
            ),
            (&["--require-sasl"], "--sasl-users-file"),
            (&["--root=/"], "--root is empty"),
            (&["--listen-urls="], "--listen-urls is empty"),
            (&["--listen-urls=http://0.0.0.0:2190"], "--advertise-url"),
            (&["--tick-time=0"], "--tick-time"),
            (&["--dns-domain=a..b"], "--dns-domain"),
            (&["--dns-ttl=86401"], "at most 86400"),
            (&["--check-allow=10.0.0.0"], "10.0.0.0 is none"),
            (&["--4lw-whitelist=ruok,nope"], "nope is none"),
            (&["--listen-zookeeper-tls=127.0.0.1:2182"], "--cert-file"),
            (&["--lisen-urls=x"], "did you mean --listen-urls?"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
}
