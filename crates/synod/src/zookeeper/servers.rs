//! ZooKeeper's connect string: servers, and the node that a client takes for its root.

use std::str::FromStr;

/// The port of ZooKeeper's clients.
const DEFAULT_PORT: u16 = 2181;

/// Which servers to use, and below which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Servers {
    addresses: Vec<String>,
    /// Empty, or a path that all others are below.
    chroot: String,
}

impl Servers {
    /// `HOST:PORT` of each.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// A user's path as the servers know it.
    pub(crate) fn absolute(&self, path: &str) -> String {
        match path {
            "/" if !self.chroot.is_empty() => self.chroot.clone(),
            path => format!("{}{path}", self.chroot),
        }
    }

    /// A path of the servers as the user knows it.
    pub(crate) fn relative<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.chroot.as_str()) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) | None => path,
        }
    }
}

impl FromStr for Servers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (list, chroot) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let chroot = match chroot {
            "/" => "",
            path if path.ends_with('/') || path.contains("//") => {
                return Err(format!("the path `{path}` is not valid"));
            }
            path => path,
        };
        let addresses = list.split(',').map(address).collect::<Result<_, _>>()?;
        Ok(Self {
            addresses,
            chroot: chroot.to_owned(),
        })
    }
}

fn address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside of brackets belongs to an address of IPv6.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    let is_host = !host.is_empty() && (!host.contains(':') || host.starts_with('['));
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse);
    match (is_host, port) {
        (true, Ok(port)) => Ok(format!("{host}:{port}")),
        (true | false, Ok(_) | Err(_)) => Err(format!(
            "`{text}` is not HOST:PORT (an address of IPv6 is written in brackets)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Servers {
        text.parse().unwrap()
    }

    #[test]
    fn a_connect_string_is_read() {
        let found = servers("a,b:1, [::1]:2,[::2]/x/y");
        assert_eq!(
            found.addresses(),
            ["a:2181", "b:1", "[::1]:2", "[::2]:2181"]
        );
        assert_eq!(found.chroot, "/x/y");
        assert_eq!(servers("a/").chroot, "");
        for wrong in [
            "",
            "a,",
            ":1",
            "a:x",
            "a:70000",
            "::1",
            "a/x/",
            "a//x",
            "http://a:1",
        ] {
            assert!(wrong.parse::<Servers>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_below_the_chroot() {
        let plain = servers("a");
        assert_eq!(plain.absolute("/"), "/");
        assert_eq!(plain.absolute("/b"), "/b");
        assert_eq!(plain.relative("/"), "/");
        assert_eq!(plain.relative("/b"), "/b");
        let below = servers("a/x");
        assert_eq!(below.absolute("/"), "/x");
        assert_eq!(below.absolute("/b"), "/x/b");
        assert_eq!(below.relative("/x"), "/");
        assert_eq!(below.relative("/x/b"), "/b");
        assert_eq!(below.relative("/xb"), "/xb");
    }
}
