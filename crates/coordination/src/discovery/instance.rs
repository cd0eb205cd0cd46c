//! An instance of a service, on the wire and in its node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::check::Kind as WireKind;

use super::health::Thresholds;
use super::is_label;
use crate::error::Error;

/// The data of an instance's node, at most.
const MAX_BYTES: usize = 8 << 10;

/// Of nodes that other programs create.
const MAX_READ_BYTES: usize = 64 << 10;

const MAX_ADDRESS_BYTES: usize = 253;
const MAX_TAGS: usize = 32;
const MAX_METADATA: usize = 64;
const MAX_CHECKS: usize = 4;
const MAX_THRESHOLD: u32 = 100;
const MIN_INTERVAL_MS: u32 = 500;
const MAX_INTERVAL_MS: u32 = 3_600_000;
const DEFAULT_INTERVAL_MS: u32 = 10_000;
const MAX_TIMEOUT_MS: u32 = 10_000;
const DEFAULT_TIMEOUT_MS: u32 = 2_000;

/// The data of an instance's node: Curator's `ServiceInstance`. What is ours is in its payload.
/// The node's path, not the data, says the names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registration {
    name: String,
    id: String,
    #[serde(default)]
    pub(crate) address: Option<String>,
    #[serde(default)]
    pub(crate) port: Option<u16>,
    #[serde(default)]
    ssl_port: Option<u16>,
    #[serde(default)]
    payload: serde_json::Value,
    #[serde(default, rename = "registrationTimeUTC")]
    pub(crate) since_ms: i64,
    #[serde(default = "dynamic")]
    service_type: String,
    #[serde(default)]
    uri_spec: serde_json::Value,
    /// Whether the instance is healthy.
    #[serde(default = "enabled")]
    pub(crate) enabled: bool,
}

/// A registration, and its payload.
pub(crate) type Instance = pb::Instance;

fn dynamic() -> String {
    "DYNAMIC".to_owned()
}

fn enabled() -> bool {
    true
}

/// What Curator does not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Payload {
    tags: Vec<String>,
    metadata: BTreeMap<String, String>,
    weight: Option<u16>,
    pub(super) checks: Vec<Check>,
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Check {
    #[serde(flatten)]
    pub(super) kind: Kind,
    #[serde(rename = "intervalMs")]
    interval_ms: u32,
    #[serde(rename = "timeoutMs")]
    timeout_ms: u32,
    failures: u32,
    successes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Kind {
    Ttl,
    Http { port: u16, path: String },
    Tcp { port: u16 },
    Grpc { port: u16, service: String },
}

impl Check {
    pub(super) fn interval(&self) -> Duration {
        // A node that another program wrote is not checked more often, either.
        let interval = self.interval_ms.max(MIN_INTERVAL_MS);
        Duration::from_millis(interval.into())
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.min(MAX_TIMEOUT_MS).into())
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        Thresholds {
            failures: self.failures.max(1),
            successes: self.successes.max(1),
        }
    }

    fn from_wire(check: &pb::Check) -> Result<Self, Error> {
        let kind = match &check.kind {
            None => {
                return Err(invalid("a check's kind", "one of ttl, http, tcp and grpc"));
            }
            Some(WireKind::Ttl(pb::TtlCheck {})) => Kind::Ttl,
            Some(WireKind::Tcp(tcp)) => Kind::Tcp {
                port: port(tcp.port)?,
            },
            Some(WireKind::Http(http)) => Kind::Http {
                port: port(http.port)?,
                path: http_path(&http.path)?,
            },
            Some(WireKind::Grpc(grpc)) => Kind::Grpc {
                port: port(grpc.port)?,
                service: grpc.service.clone(),
            },
        };
        let interval_ms = or_default(check.interval_ms, DEFAULT_INTERVAL_MS);
        if !(MIN_INTERVAL_MS..=MAX_INTERVAL_MS).contains(&interval_ms) {
            return Err(invalid("interval_ms", "500 to 3600000"));
        }
        let timeout_ms = or_default(check.timeout_ms, DEFAULT_TIMEOUT_MS);
        if timeout_ms > MAX_TIMEOUT_MS {
            return Err(invalid("timeout_ms", "at most 10000"));
        }
        if check.failures > MAX_THRESHOLD || check.successes > MAX_THRESHOLD {
            return Err(invalid("failures or successes", "at most 100"));
        }
        let failures = if kind == Kind::Ttl { 1 } else { 3 };
        Ok(Self {
            kind,
            interval_ms,
            timeout_ms,
            failures: or_default(check.failures, failures),
            successes: or_default(check.successes, 1),
        })
    }

    fn to_wire(&self) -> pb::Check {
        let kind = match self.kind.clone() {
            Kind::Ttl => WireKind::Ttl(pb::TtlCheck {}),
            Kind::Tcp { port } => WireKind::Tcp(pb::TcpCheck { port: port.into() }),
            Kind::Http { port, path } => WireKind::Http(pb::HttpCheck {
                port: port.into(),
                path,
            }),
            Kind::Grpc { port, service } => WireKind::Grpc(pb::GrpcCheck {
                port: port.into(),
                service,
            }),
        };
        pb::Check {
            kind: Some(kind),
            interval_ms: self.interval_ms,
            timeout_ms: self.timeout_ms,
            failures: self.failures,
            successes: self.successes,
        }
    }
}

impl Registration {
    /// Checks an instance that a client wants to register. It is healthy if it has no checks.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn from_wire(instance: pb::Instance, now_ms: i64) -> Result<Self, Error> {
        let label =
            "1 to 63 lower-case letters, digits, `-` and `_`, the first one a letter or a digit";
        if !is_label(&instance.service) {
            return Err(invalid("service", label));
        }
        if !is_label(&instance.id) {
            return Err(invalid("id", label));
        }
        check_address(&instance.address)?;
        if instance.tags.len() > MAX_TAGS {
            return Err(invalid("tags", "at most 32"));
        }
        if instance.metadata.len() > MAX_METADATA {
            return Err(invalid("metadata", "at most 64 entries"));
        }
        if instance.checks.len() > MAX_CHECKS {
            return Err(invalid("checks", "at most 4"));
        }
        let weight = instance.weight.map(u16::try_from).transpose();
        let checks = instance.checks.iter().map(Check::from_wire);
        let payload = Payload {
            tags: instance.tags,
            metadata: instance.metadata.into_iter().collect(),
            weight: weight.map_err(|_| invalid("weight", "at most 65535"))?,
            checks: checks.collect::<Result<_, _>>()?,
        };
        let port = port(instance.port)?;
        if payload
            .checks
            .iter()
            .any(|check| check.target_port(port) == Some(0))
        {
            return Err(invalid("port", "a port of the instance or of its check"));
        }
        let registration = Self {
            name: instance.service,
            id: instance.id,
            address: Some(instance.address),
            port: Some(port).filter(|port| *port != 0),
            ssl_port: None,
            enabled: payload.checks.is_empty(),
            payload: serde_json::to_value(payload).unwrap_or_default(),
            since_ms: now_ms,
            service_type: dynamic(),
            uri_spec: serde_json::Value::Null,
        };
        if registration.probed() && registration.ip().is_none() {
            let expected = "an IP address, since the instance has checks: names are not resolved";
            return Err(invalid("address", expected));
        }
        if registration.encode().len() > MAX_BYTES {
            return Err(invalid("the instance", "at most 8 KiB"));
        }
        Ok(registration)
    }

    /// The instance as clients see it.
    pub(crate) fn to_wire(
        &self,
        service: &str,
        id: &str,
        token: i64,
        session: i64,
    ) -> pb::Instance {
        let payload = self.payload();
        pb::Instance {
            service: service.to_owned(),
            id: id.to_owned(),
            address: self.address.clone().unwrap_or_default(),
            port: self.port.unwrap_or_default().into(),
            weight: Some(payload.weight.unwrap_or(1).into()),
            checks: payload.checks.iter().map(Check::to_wire).collect(),
            tags: payload.tags,
            metadata: payload.metadata.into_iter().collect(),
            health: match self.enabled {
                true => pb::Health::Passing.into(),
                false => pb::Health::Failing.into(),
            },
            token: u64::try_from(token).unwrap_or_default(),
            session_id: session,
            since_ms: self.since_ms,
        }
    }

    /// That of another program is empty.
    pub(super) fn payload(&self) -> Payload {
        Payload::deserialize(&self.payload).unwrap_or_default()
    }

    /// Takes what a client does not change from what was registered before.
    pub(crate) fn continues(&mut self, before: &Self) {
        self.since_ms = before.since_ms;
        if !self.payload().checks.is_empty() {
            self.enabled = before.enabled;
        }
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.address.as_deref()?.parse().ok()
    }

    /// Whether a check connects to it.
    pub(crate) fn probed(&self) -> bool {
        let checks = self.payload().checks;
        checks.iter().any(|check| check.kind != Kind::Ttl)
    }

    /// Whether it has checks.
    pub(crate) fn is_checked(&self) -> bool {
        !self.payload().checks.is_empty()
    }

    /// Whether a check waits for heartbeats.
    pub(crate) fn has_ttl(&self) -> bool {
        let checks = self.payload().checks;
        checks.iter().any(|check| check.kind == Kind::Ttl)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // There is nothing in it that JSON does not have.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` if it is no instance.
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        if data.len() > MAX_READ_BYTES {
            return None;
        }
        let mut read: Self = serde_json::from_slice(data).ok()?;
        let mut payload = read.payload();
        if payload.checks.len() > MAX_CHECKS {
            payload.checks.truncate(MAX_CHECKS);
            read.payload = serde_json::to_value(payload).ok()?;
        }
        Some(read)
    }
}

impl Check {
    /// The port that is connected to.
    pub(super) fn target_port(&self, own: u16) -> Option<u16> {
        match self.kind {
            Kind::Ttl => None,
            Kind::Http { port: 0, .. } | Kind::Tcp { port: 0 } | Kind::Grpc { port: 0, .. } => {
                Some(own)
            }
            Kind::Http { port, .. } | Kind::Tcp { port } | Kind::Grpc { port, .. } => Some(port),
        }
    }
}

fn check_address(address: &str) -> Result<(), Error> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_valid = (1..=MAX_ADDRESS_BYTES).contains(&address.len())
        && (address.parse::<IpAddr>().is_ok() || address.chars().all(is_name));
    match is_valid {
        true => Ok(()),
        false => Err(invalid("address", "an IP address or a host's name")),
    }
}

fn http_path(path: &str) -> Result<String, Error> {
    match path {
        "" => Ok("/".to_owned()),
        path if path.starts_with('/') && path.parse::<hyper::Uri>().is_ok() => Ok(path.to_owned()),
        _ => Err(invalid("a check's path", "a path that begins with `/`")),
    }
}

fn port(port: u32) -> Result<u16, Error> {
    u16::try_from(port).map_err(|_| invalid("port", "at most 65535"))
}

fn or_default(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

fn invalid(what: &'static str, expected: &'static str) -> Error {
    Error::Invalid { what, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> pb::Instance {
        pb::Instance {
            service: "web".to_owned(),
            id: "web-1".to_owned(),
            address: "10.0.0.1".to_owned(),
            port: 80,
            tags: vec!["blue".to_owned()],
            metadata: [("zone".to_owned(), "a".to_owned())].into(),
            weight: Some(3),
            ..pb::Instance::default()
        }
    }

    fn check(kind: WireKind) -> pb::Check {
        pb::Check {
            kind: Some(kind),
            ..pb::Check::default()
        }
    }

    #[test]
    fn a_node_has_the_form_of_curators_instances() {
        let registration = Registration::from_wire(instance(), 17).unwrap();
        let text = String::from_utf8(registration.encode()).unwrap();
        let expected = r#"{"name":"web","id":"web-1","address":"10.0.0.1","port":80,"sslPort":null,"payload":{"checks":[],"metadata":{"zone":"a"},"tags":["blue"],"weight":3},"registrationTimeUTC":17,"serviceType":"DYNAMIC","uriSpec":null,"enabled":true}"#;
        assert_eq!(text, expected);
        assert_eq!(Registration::decode(text.as_bytes()), Some(registration));
    }

    #[test]
    fn what_was_registered_is_seen() {
        let mut asked = instance();
        asked.checks = vec![
            check(WireKind::Ttl(pb::TtlCheck {})),
            check(WireKind::Http(pb::HttpCheck::default())),
            check(WireKind::Tcp(pb::TcpCheck { port: 81 })),
            check(WireKind::Grpc(pb::GrpcCheck {
                port: 82,
                service: "a.B".to_owned(),
            })),
        ];
        let registration = Registration::from_wire(asked.clone(), 17).unwrap();
        let read = Registration::decode(&registration.encode()).unwrap();
        let seen = read.to_wire("web", "web-1", 5, 6);
        assert_eq!(seen.health(), pb::Health::Failing);
        assert_eq!((seen.token, seen.session_id, seen.since_ms), (5, 6, 17));
        assert_eq!(
            (seen.weight, &seen.tags, &seen.metadata),
            (asked.weight, &asked.tags, &asked.metadata)
        );
        let failures: Vec<u32> = seen.checks.iter().map(|check| check.failures).collect();
        assert_eq!(failures, [1, 3, 3, 3]);
        let again = Registration::from_wire(seen.clone(), 17).unwrap();
        assert_eq!(again, read);
    }

    #[test]
    fn instances_of_curators_clients_are_read() {
        let text = r#"{"name":"Web","id":"8f-1","address":"10.0.0.2","port":8080,"sslPort":null,"payload":{"@class":"x.Y","tags":7},"registrationTimeUTC":9,"serviceType":"DYNAMIC","uriSpec":{"parts":[]}}"#;
        let read = Registration::decode(text.as_bytes()).unwrap();
        let seen = read.to_wire("Web", "8f-1", 1, 2);
        assert_eq!((seen.port, seen.weight), (8080, Some(1)));
        assert_eq!(seen.health(), pb::Health::Passing);
        assert!(seen.tags.is_empty() && seen.checks.is_empty());
        for other in ["", "{}", "[]", &" ".repeat(MAX_READ_BYTES + 1)] {
            assert_eq!(Registration::decode(other.as_bytes()), None);
        }
    }

    #[test]
    fn mistakes_are_named() {
        type Damage = fn(&mut pb::Instance);
        let tcp = || check(WireKind::Tcp(pb::TcpCheck::default()));
        let cases: [(&str, Damage); 13] = [
            ("service", |i| i.service = "Web".to_owned()),
            ("id", |i| i.id = "a.b".to_owned()),
            ("id", |i| i.id = "_a".to_owned()),
            ("id", |i| i.id = "x".repeat(64)),
            ("address", |i| i.address = "a b".to_owned()),
            ("address", |i| i.address = String::new()),
            ("port", |i| i.port = 65_536),
            ("tags", |i| i.tags = vec![String::new(); 33]),
            ("weight", |i| i.weight = Some(65_536)),
            ("the instance", |i| i.tags = vec!["x".repeat(9_000)]),
            ("a check's kind", |i| i.checks = vec![pb::Check::default()]),
            ("checks", |i| i.checks = vec![pb::Check::default(); 5]),
            ("a check's path", |i| {
                let path = "x".to_owned();
                i.checks = vec![check(WireKind::Http(pb::HttpCheck { port: 0, path }))];
            }),
        ];
        for (expected, change) in cases {
            let mut wrong = instance();
            change(&mut wrong);
            let error = Registration::from_wire(wrong, 0).unwrap_err();
            assert!(
                matches!(error, Error::Invalid { what, .. } if what == expected),
                "{error:?} instead of {expected}"
            );
        }
        let mut named = instance();
        named.address = "db.example".to_owned();
        Registration::from_wire(named.clone(), 0).unwrap();
        named.checks = vec![tcp()];
        assert!(Registration::from_wire(named, 0).is_err());
        let mut portless = instance();
        portless.port = 0;
        Registration::from_wire(portless.clone(), 0).unwrap();
        portless.checks = vec![tcp()];
        assert!(Registration::from_wire(portless, 0).is_err());
        for (interval_ms, timeout_ms, failures) in
            [(499, 0, 0), (3_600_001, 0, 0), (0, 10_001, 0), (0, 0, 101)]
        {
            let mut wrong = instance();
            wrong.checks = vec![pb::Check {
                interval_ms,
                timeout_ms,
                failures,
                ..tcp()
            }];
            assert!(Registration::from_wire(wrong, 0).is_err());
        }
    }
}
