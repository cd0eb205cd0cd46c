//! The networks in which health checks may connect to instances.

use std::net::IpAddr;

use ipnet::IpNet;

/// Private networks: RFC 1918 and RFC 4193.
const PRIVATE: &str = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7";

/// Networks. Who registers an instance makes a pod connect to it, so that a pod is not to reach
/// what only pods may: its own host, or the metadata of a cloud's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads networks separated by commas, as `10.0.0.0/8,fc00::/7`. Nothing: no network.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let networks = parts.map(|part| {
            let network: Result<IpNet, _> = part.parse();
            network.map_err(|_| format!("networks such as 10.0.0.0/8, but {part} is none"))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// These networks, and those of this machine alone.
    #[must_use]
    pub fn and_loopback(mut self) -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"].into_iter();
        self.0
            .extend(loopback.filter_map(|text| text.parse::<IpNet>().ok()));
        self
    }

    /// Whether an address is in one of the networks. An IPv4 address in the form of an IPv6 address
    /// is an IPv4 address.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The private networks.
impl Default for Networks {
    fn default() -> Self {
        Self::parse(PRIVATE).unwrap_or(Self(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_stay_in_private_networks_unless_told_otherwise() {
        let contain = |networks: &Networks, text: &str| networks.contain(text.parse().unwrap());
        let private = Networks::default();
        for inside in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "fd00::1",
            "::ffff:10.1.2.3",
        ] {
            assert!(contain(&private, inside), "{inside}");
        }
        for outside in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "8.8.8.8",
            "172.32.0.1",
            "fe80::1",
            "0.0.0.0",
        ] {
            assert!(!contain(&private, outside), "{outside}");
        }
        let local = private.and_loopback();
        assert!(contain(&local, "127.0.0.1") && contain(&local, "::1"));
        assert!(!contain(&Networks::parse("").unwrap(), "10.1.2.3"));
        let error = Networks::parse("10.0.0.0/8,x").unwrap_err();
        assert!(error.contains("x is none"), "{error}");
    }
}
