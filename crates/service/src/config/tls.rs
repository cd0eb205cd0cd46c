//! The flags of TLS, which are etcd's, for clients and, with the prefix `peer-`, for peers.

use std::path::PathBuf;

use synod_rpc::{
    CertificateFiles, ClientTls, ClientTlsConfig, Protocol, ServerTls, ServerTlsConfig,
    ServerTrust, ServerUrl, TlsError, Trust,
};

use super::ConfigError;
use super::value::{self, is_tls};

/// Days in `--self-signed-cert-validity`'s unit, which is years.
const YEAR_DAYS: u32 = 365;
/// Certificates can't name every date.
const MAX_SELF_SIGNED_YEARS: u32 = 100;

/// Whose connections a set of flags is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those of clients.
    Clients,
    /// Those between members.
    Peers,
}

/// TLS of one side, as the flags say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFlags {
    side: Side,
    /// `cert-file`.
    pub cert_file: Option<PathBuf>,
    /// `key-file`.
    pub key_file: Option<PathBuf>,
    /// `trusted-ca-file`.
    pub trusted_ca_file: Option<PathBuf>,
    /// `client-cert-auth`: clients must show a certificate. A trusted authority implies it.
    pub client_cert_auth: bool,
    /// `client-crl-file` and `peer-crl-file`.
    pub crl_file: Option<PathBuf>,
    /// `peer-cert-allowed-cn`.
    pub allowed_common_names: Vec<String>,
    /// `client-cert-allowed-hostname` and `peer-cert-allowed-hostname`.
    pub allowed_hostnames: Vec<String>,
    /// `auto-tls` and `peer-auto-tls`: a self-signed certificate, in memory.
    pub auto: bool,
    /// `peer-client-cert-file`: shown to other members, if not `cert-file`.
    pub client_cert_file: Option<PathBuf>,
    /// `peer-client-key-file`.
    pub client_key_file: Option<PathBuf>,
}

/// What both sides share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCommon {
    /// `tls-min-version`, `tls-max-version` and `cipher-suites`.
    pub protocol: Protocol,
    /// `self-signed-cert-validity`, in years; 1.
    pub self_signed_years: u32,
}

impl Default for TlsCommon {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            self_signed_years: 1,
        }
    }
}

impl TlsCommon {
    /// Sets what a flag says; false if the flag is another one's.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn set(&mut self, flag: &str, text: &str) -> Result<bool, ConfigError> {
        let bad = |expected: String| ConfigError::invalid(flag, text, &expected);
        match flag {
            "tls-min-version" => self.protocol.min = text.parse().map_err(bad)?,
            "tls-max-version" => self.protocol.max = text.parse().map_err(bad)?,
            "cipher-suites" => {
                let names = value::list(text);
                let suites: Result<_, String> = names.iter().map(|name| name.parse()).collect();
                self.protocol.cipher_suites = suites.map_err(bad)?;
            }
            "self-signed-cert-validity" => {
                let years = value::number(text, 1).map_err(bad)?;
                if years > MAX_SELF_SIGNED_YEARS {
                    return Err(bad(format!("at most {MAX_SELF_SIGNED_YEARS} years")));
                }
                self.self_signed_years = years;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl TlsFlags {
    /// Nothing given.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self {
            side,
            cert_file: None,
            key_file: None,
            trusted_ca_file: None,
            client_cert_auth: false,
            crl_file: None,
            allowed_common_names: Vec::new(),
            allowed_hostnames: Vec::new(),
            auto: false,
            client_cert_file: None,
            client_key_file: None,
        }
    }

    /// Sets what a flag says; false if the flag is another one's.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn set(&mut self, flag: &str, text: &str) -> Result<bool, ConfigError> {
        let path = || Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty());
        let switch =
            || value::boolean(text).map_err(|expected| ConfigError::invalid(flag, text, &expected));
        let name = match (self.side, flag.strip_prefix("peer-")) {
            (Side::Peers, Some(name)) => name,
            (Side::Clients, None) => flag,
            (Side::Peers, None) | (Side::Clients, Some(_)) => return Ok(false),
        };
        match (self.side, name) {
            (_, "cert-file") => self.cert_file = path(),
            (_, "key-file") => self.key_file = path(),
            (_, "trusted-ca-file") => self.trusted_ca_file = path(),
            (_, "client-cert-auth") => self.client_cert_auth = switch()?,
            (_, "auto-tls") => self.auto = switch()?,
            (Side::Clients, "client-crl-file") | (Side::Peers, "crl-file") => {
                self.crl_file = path();
            }
            (Side::Clients, "client-cert-allowed-hostname")
            | (Side::Peers, "cert-allowed-hostname") => {
                self.allowed_hostnames = value::list(text);
            }
            (Side::Peers, "cert-allowed-cn") => self.allowed_common_names = value::list(text),
            (Side::Peers, "client-cert-file") => self.client_cert_file = path(),
            (Side::Peers, "client-key-file") => self.client_key_file = path(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether a certificate is there to serve with.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.cert_file.is_some() || self.auto
    }

    /// Whether a self-signed certificate is used: `auto-tls` without a certificate.
    fn is_self_signed(&self) -> bool {
        self.auto && self.cert_file.is_none()
    }

    /// Whether it is known which members to trust when they are dialled with TLS.
    #[must_use]
    pub fn can_dial(&self) -> bool {
        self.trusted_ca_file.is_some() || self.is_self_signed()
    }

    /// Checks the flags against each other and against the URLs that are listened on.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`].
    pub fn check(&self, urls: &[String]) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError::Contradiction(text));
        let flag = |name: &str| self.flag(name);
        let pairs = [
            ("cert-file", &self.cert_file, "key-file", &self.key_file),
            (
                "client-cert-file",
                &self.client_cert_file,
                "client-key-file",
                &self.client_key_file,
            ),
        ];
        for (certificate_flag, certificate, key_flag, key) in pairs {
            if certificate.is_some() != key.is_some() {
                return refuse(format!(
                    "{} and {} must be given together",
                    flag(certificate_flag),
                    flag(key_flag)
                ));
            }
        }
        if let Some(url) = urls.iter().find(|url| is_tls(url))
            && !self.is_given()
        {
            return refuse(format!(
                "{url} needs a certificate: give {} and {}, or {}",
                flag("cert-file"),
                flag("key-file"),
                flag("auto-tls")
            ));
        }
        if self.is_self_signed() && self.trusted_ca_file.is_some() {
            // A self-signed certificate comes without a check of clients, as in etcd.
            return refuse(format!(
                "{} has no effect with {} alone: give {} and {}",
                flag("trusted-ca-file"),
                flag("auto-tls"),
                flag("cert-file"),
                flag("key-file")
            ));
        }
        let needs_authority = [
            (self.client_cert_auth, flag("client-cert-auth")),
            (self.crl_file.is_some(), self.crl_flag()),
            (
                !self.allowed_common_names.is_empty(),
                flag("cert-allowed-cn"),
            ),
            (!self.allowed_hostnames.is_empty(), self.hostname_flag()),
        ];
        for (is_given, name) in needs_authority {
            if is_given && self.trusted_ca_file.is_none() {
                return refuse(format!("{name} needs {}", flag("trusted-ca-file")));
            }
        }
        if !self.allowed_common_names.is_empty() && !self.allowed_hostnames.is_empty() {
            return refuse(format!(
                "{} and {} exclude each other",
                flag("cert-allowed-cn"),
                self.hostname_flag()
            ));
        }
        Ok(())
    }

    /// What listeners with TLS show and ask for; `None` if no URL asks for TLS.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn server(
        &self,
        common: &TlsCommon,
        urls: &[String],
    ) -> Result<Option<ServerTls>, TlsError> {
        if self.is_given() {
            // Maybe wanted, maybe a mistyped scheme.
            for url in urls.iter().filter(|url| !is_tls(url)) {
                tracing::warn!(
                    url,
                    "this URL is served without TLS, and the TLS flags do not apply to it: give an https:// or unixs:// URL if it \
                     should be encrypted"
                );
            }
        }
        if !urls.iter().any(|url| is_tls(url)) {
            return Ok(None);
        }
        let Some(certificate) = pair(self.cert_file.as_ref(), self.key_file.as_ref()) else {
            let days = common.self_signed_years.saturating_mul(YEAR_DAYS);
            return ServerTls::self_signed(&hosts(urls), days, &common.protocol).map(Some);
        };
        ServerTls::load(ServerTlsConfig {
            certificate,
            clients: self.trust(),
            protocol: common.protocol.clone(),
        })
        .map(Some)
    }

    /// How other members are dialled at URLs with TLS; `None` if
    /// nothing says which of them to trust.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn client(&self, common: &TlsCommon) -> Result<Option<ClientTls>, TlsError> {
        let own = pair(self.cert_file.as_ref(), self.key_file.as_ref());
        let shown = pair(
            self.client_cert_file.as_ref(),
            self.client_key_file.as_ref(),
        );
        let servers = match self.trust() {
            Some(trust) => ServerTrust::Verified(trust),
            // Members whose certificates nobody vouches for accept each other.
            None if self.is_self_signed() => ServerTrust::Unverified,
            None => return Ok(None),
        };
        ClientTls::load(ClientTlsConfig {
            certificate: shown.or(own),
            servers,
            protocol: common.protocol.clone(),
        })
        .map(Some)
    }

    fn trust(&self) -> Option<Trust> {
        Some(Trust {
            crl_file: self.crl_file.clone(),
            allowed_common_names: self.allowed_common_names.clone(),
            allowed_hostnames: self.allowed_hostnames.clone(),
            ..Trust::new(self.trusted_ca_file.clone()?)
        })
    }

    fn flag(&self, name: &str) -> String {
        match self.side {
            Side::Clients => format!("--{name}"),
            Side::Peers => format!("--peer-{name}"),
        }
    }

    fn crl_flag(&self) -> String {
        match self.side {
            Side::Clients => "--client-crl-file".to_owned(),
            Side::Peers => "--peer-crl-file".to_owned(),
        }
    }

    fn hostname_flag(&self) -> String {
        match self.side {
            Side::Clients => "--client-cert-allowed-hostname".to_owned(),
            Side::Peers => "--peer-cert-allowed-hostname".to_owned(),
        }
    }
}

fn pair(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<CertificateFiles> {
    Some(CertificateFiles {
        certificate: certificate?.clone(),
        key: key?.clone(),
    })
}

/// Whom a self-signed certificate is for.
fn hosts(urls: &[String]) -> Vec<String> {
    let parsed = urls.iter().filter_map(|url| ServerUrl::parse(url).ok());
    let named = parsed.filter(|url| !url.is_wildcard());
    let mut hosts: Vec<_> = named
        .filter_map(|url| url.host().map(str::to_owned))
        .chain(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(side: Side, given: &[(&str, &str)]) -> TlsFlags {
        let mut flags = TlsFlags::new(side);
        for (flag, text) in given {
            assert!(flags.set(flag, text).unwrap(), "{flag}");
        }
        flags
    }

    fn refused(side: Side, given: &[(&str, &str)], url: &str) -> String {
        let checked = flags(side, given).check(&[url.to_owned()]);
        checked.unwrap_err().to_string()
    }

    #[test]
    fn each_side_knows_its_own_flags() {
        let mut clients = TlsFlags::new(Side::Clients);
        let mut peers = TlsFlags::new(Side::Peers);
        for flag in [
            "cert-file",
            "client-crl-file",
            "client-cert-allowed-hostname",
            "auto-tls",
        ] {
            assert!(clients.set(flag, "true").unwrap(), "{flag}");
            assert!(!peers.set(flag, "true").unwrap(), "{flag}");
        }
        for flag in [
            "peer-cert-file",
            "peer-crl-file",
            "peer-cert-allowed-cn",
            "peer-auto-tls",
        ] {
            assert!(peers.set(flag, "true").unwrap(), "{flag}");
            assert!(!clients.set(flag, "true").unwrap(), "{flag}");
        }
        assert!(clients.set("auto-tls", "perhaps").is_err());
    }

    #[test]
    fn half_given_flags_are_refused() {
        let (clients, peers) = (Side::Clients, Side::Peers);
        let http = "http://a:1";
        let text = refused(clients, &[("cert-file", "c")], http);
        assert_eq!(text, "--cert-file and --key-file must be given together");
        let text = refused(peers, &[], "https://a:1");
        assert!(
            text.contains("https://a:1 needs a certificate: give --peer-cert-file"),
            "{text}"
        );
        let text = refused(clients, &[("client-cert-auth", "true")], http);
        assert_eq!(text, "--client-cert-auth needs --trusted-ca-file");
        let unchecked = [("auto-tls", "true"), ("trusted-ca-file", "ca")];
        let text = refused(clients, &unchecked, http);
        assert!(
            text.contains("--trusted-ca-file has no effect with --auto-tls"),
            "{text}"
        );
        let text = refused(
            clients,
            &[("auto-tls", "true"), ("client-cert-auth", "true")],
            http,
        );
        assert_eq!(text, "--client-cert-auth needs --trusted-ca-file");
        let text = refused(peers, &[("peer-cert-allowed-cn", "a")], http);
        assert_eq!(text, "--peer-cert-allowed-cn needs --peer-trusted-ca-file");
        let both = [
            ("peer-trusted-ca-file", "ca"),
            ("peer-cert-allowed-cn", "a"),
            ("peer-cert-allowed-hostname", "b"),
        ];
        assert!(refused(peers, &both, http).contains("exclude each other"));
        let whole = [
            ("cert-file", "c"),
            ("key-file", "k"),
            ("trusted-ca-file", "ca"),
        ];
        assert_eq!(
            flags(clients, &whole).check(&["https://a:1".to_owned()]),
            Ok(())
        );
    }

    #[test]
    fn common_flags_say_what_was_expected() {
        let mut common = TlsCommon::default();
        assert!(common.set("tls-min-version", "TLS1.3").unwrap());
        assert!(
            common
                .set("cipher-suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
                .unwrap()
        );
        assert!(!common.set("cert-file", "x").unwrap());
        let text = common.set("self-signed-cert-validity", "9000").unwrap_err();
        assert!(text.to_string().contains("at most 100 years"), "{text}");
        let text = common
            .set("tls-max-version", "TLS1.1")
            .unwrap_err()
            .to_string();
        assert!(text.contains("TLS1.2 or TLS1.3"), "{text}");
        let text = common
            .set("cipher-suites", "TLS_RSA_WITH_RC4_128_SHA")
            .unwrap_err();
        assert!(
            text.to_string().contains("supported cipher suites"),
            "{text}"
        );
    }

    #[test]
    fn members_with_certificates_are_never_trusted_unverified() {
        let own = [
            ("peer-cert-file", "c"),
            ("peer-key-file", "k"),
            ("peer-auto-tls", "true"),
        ];
        assert!(!flags(Side::Peers, &own).can_dial());
        assert!(flags(Side::Peers, &own[2..]).can_dial());
    }

    #[test]
    fn a_self_signed_certificate_is_for_the_hosts_that_are_listened_on() {
        let urls = ["https://0.0.0.0:1", "https://node1:1", "unixs://a"].map(str::to_owned);
        assert_eq!(hosts(&urls), ["127.0.0.1", "localhost", "node1"]);
    }
}
