//! The URLs of servers: where they listen, what they advertise, what is dialled.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use http::Uri;
use thiserror::Error;
use url::Url;

/// The operating system's limit on a socket's path is 108 bytes, with the NUL at the end.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// One of `http://HOST:PORT`, `https://HOST:PORT`, `unix://PATH` and `unixs://PATH`. The last two
/// are sockets in the file system, the second and the last use TLS. An IPv6 address stands in
/// brackets. What follows `unix://` is the path, as in etcd: `unix:///run/a.sock` is absolute,
/// `unix://a.sock` is relative.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    text: String,
    is_tls: bool,
    place: Place,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Tcp {
        /// A name, or an address without brackets.
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

/// A text that is no [`ServerUrl`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} {reason}: use http://HOST:PORT, https://HOST:PORT or unix://PATH")]
pub struct UrlError {
    /// As given.
    pub text: String,
    /// What is wrong with it, as the end of a sentence that begins with it.
    pub reason: String,
}

impl ServerUrl {
    /// Reads a URL. A slash at its end is dropped.
    ///
    /// # Errors
    /// [`UrlError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        parse(text).map_err(|reason| UrlError {
            text: text.to_owned(),
            reason,
        })
    }

    /// The URL, with its scheme in lower case and without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the scheme asks for TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The path of a socket in the file system; `None` for TCP.
    #[must_use]
    pub fn socket_path(&self) -> Option<&Path> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Unix(path) => Some(path),
        }
    }

    /// The host's name or address, an IPv6 address without brackets; `None` for a socket in the
    /// file system.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host),
            Place::Unix(_) => None,
        }
    }

    /// Whether it stands for all addresses of the machine: others can't connect to that.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host(), Some("0.0.0.0" | "::"))
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn parse(text: &str) -> Result<ServerUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("has no scheme".to_owned());
    };
    let scheme = scheme.to_ascii_lowercase();
    let is_tls = matches!(scheme.as_str(), "https" | "unixs");
    let (place, rest) = match scheme.as_str() {
        "http" | "https" => (tcp(text)?, rest.trim_end_matches('/')),
        "unix" | "unixs" => (unix(rest)?, rest),
        other => return Err(format!("has the scheme {other:?}, which is not served")),
    };
    Ok(ServerUrl {
        text: format!("{scheme}://{rest}"),
        is_tls,
        place,
    })
}

fn tcp(text: &str) -> Result<Place, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
    // Channels take URIs, and `Url` mends what they refuse.
    let is_uri = text
        .parse::<Uri>()
        .is_ok_and(|uri| uri.authority().is_some());
    if !is_uri {
        return Err("is not a URL".to_owned());
    }
    let host = match url.host() {
        Some(url::Host::Domain(name)) if !name.is_empty() => name.to_owned(),
        Some(url::Host::Ipv4(address)) => address.to_string(),
        Some(url::Host::Ipv6(address)) => address.to_string(),
        Some(url::Host::Domain(_)) | None => return Err("names no host".to_owned()),
    };
    if text.contains('@') {
        return Err("must not have a user name or a password: nothing checks them".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a path or a query".to_owned());
    }
    // `Url` drops a port that is the scheme's default, so the text decides.
    let default = match url.scheme() {
        "https" => 443,
        _ => 80,
    };
    let ends_with_default = text.trim_end_matches('/').ends_with(&format!(":{default}"));
    match url.port() {
        Some(port) => Ok(Place::Tcp { host, port }),
        None if ends_with_default => Ok(Place::Tcp {
            host,
            port: default,
        }),
        None => Err("names no port".to_owned()),
    }
}

fn unix(path: &str) -> Result<Place, String> {
    if path.is_empty() || path.contains('\0') {
        return Err("names no path".to_owned());
    }
    if path.len() > MAX_SOCKET_PATH_BYTES {
        return Err(format!(
            "has a path of {} bytes, and a socket's path has at most {MAX_SOCKET_PATH_BYTES}",
            path.len()
        ));
    }
    Ok(Place::Unix(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, written, host, is_tls) in [
            ("http://a:1/", "http://a:1", Some("a"), false),
            ("HTTP://a:1", "http://a:1", Some("a"), false),
            ("http://[::1]:80", "http://[::1]:80", Some("::1"), false),
            (
                "https://10.0.0.1:443",
                "https://10.0.0.1:443",
                Some("10.0.0.1"),
                true,
            ),
            ("unix:///run/a.sock", "unix:///run/a.sock", None, false),
            ("unixs://a:1", "unixs://a:1", None, true),
        ] {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!(url.as_str(), written);
            assert_eq!((url.host(), url.is_tls()), (host, is_tls), "{text}");
            assert_eq!(ServerUrl::parse(written), Ok(url), "read again");
        }
        let url = ServerUrl::parse("unix://a:1").unwrap();
        assert_eq!(url.socket_path(), Some(Path::new("a:1")), "as etcd has it");
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        let long = format!("unix:///{}", "x".repeat(107));
        for (text, reason) in [
            ("a:1", "scheme"),
            ("", "scheme"),
            ("ftp://a:1", "\"ftp\""),
            ("http://a", "port"),
            ("https://a:80x", "URL"),
            ("http://:1", "URL"),
            ("http://a:1/x", "path"),
            ("http://a:1?x", "path"),
            ("http://me@a:1", "user name"),
            ("http://@a:1", "user name"),
            ("http:a:1", "scheme"),
            ("http:///a:1", "is not a URL"),
            ("http://a\t:1", "is not a URL"),
            ("http://a:99999", "URL"),
            ("unix://", "names no path"),
            (long.as_str(), "at most 107"),
        ] {
            let error = ServerUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn wildcards_are_known() {
        for (text, is_wildcard) in [
            ("http://0.0.0.0:1", true),
            ("https://[::]:1", true),
            ("http://127.0.0.1:1", false),
            ("unix://0.0.0.0:1", false),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap().is_wildcard(), is_wildcard);
        }
    }
}
