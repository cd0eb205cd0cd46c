//! The schemes by which clients identify themselves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use super::Id;

/// The identity of a client that shows `user:password`: the user, and the SHA-1 digest of both in
/// base64.
#[must_use]
pub fn digest(user_and_password: &str) -> Id {
    let user = user_and_password.split(':').next().unwrap_or_default();
    let hash = STANDARD.encode(Sha1::digest(user_and_password.as_bytes()));
    Id::new("digest", &format!("{user}:{hash}"))
}

/// Whether the scheme authenticates, so that `auth` in a list stands for this identity.
pub(super) fn is_authenticated(id: &Id) -> bool {
    matches!(id.scheme.as_str(), "digest" | "x509" | "sasl")
}

/// Whether the identity can be in a list.
pub(super) fn is_valid(id: &Id) -> bool {
    match id.scheme.as_str() {
        "digest" => is_user_and_hash(&id.id),
        "ip" => Network::parse(&id.id).is_some(),
        "sasl" => is_principal(&id.id),
        "x509" => is_distinguished_name(&id.id),
        _ => false,
    }
}

/// Whether a client is the one that `granted` means.
pub(super) fn matches(client: &Id, granted: &Id) -> bool {
    if client.scheme != granted.scheme {
        return false;
    }
    match client.scheme.as_str() {
        "digest" | "x509" => client.id == granted.id,
        "sasl" => client.id == "super" || client.id == granted.id,
        "ip" => Network::parse(&granted.id).is_some_and(|network| network.contains(&client.id)),
        _ => false,
    }
}

/// ZooKeeper splits at `:` and expects two parts, not counting empty ones at the end.
fn is_user_and_hash(id: &str) -> bool {
    let id = id.trim_end_matches(':');
    id.matches(':').count() == 1
}

/// A Kerberos name: `service`, `service@REALM` or `service/host@REALM`. Without `@` anything goes.
fn is_principal(id: &str) -> bool {
    let Some((name, realm)) = id.split_once('@') else {
        return true;
    };
    name.matches('/').count() <= 1 && !realm.contains(['/', '@'])
}

/// A distinguished name (RFC 2253): `attribute=value` separated by `,`, `;` or `+`, with `\` before
/// or quotes around special characters.
fn is_distinguished_name(name: &str) -> bool {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("it starts with one part");
        match c {
            '\\' => match chars.next() {
                Some(_) => part.push('_'),
                None => return false,
            },
            '"' => is_quoted = !is_quoted,
            ',' | ';' | '+' if !is_quoted => parts.push(String::new()),
            _ if is_quoted => part.push('_'),
            _ => part.push(c),
        }
    }
    let is_attribute = |part: &String| {
        part.split_once('=').is_some_and(|(key, _)| {
            let key = key.trim();
            let is_key_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            !key.is_empty() && key.chars().all(is_key_char)
        })
    };
    !is_quoted && (name.trim().is_empty() || parts.iter().all(is_attribute))
}

/// An address with the number of its leading bits that count.
struct Network {
    address: Vec<u8>,
    bits: usize,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (address(text)?, None),
            Some((text, bits)) => (address(text)?, Some(bits.parse().ok()?)),
        };
        let all = address.len() * 8;
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { address, bits })
    }

    fn contains(&self, client: &str) -> bool {
        let Some(client) = address(client) else {
            return false;
        };
        let (whole, rest) = (self.bits / 8, self.bits % 8);
        client.len() == self.address.len()
            && client[..whole] == self.address[..whole]
            && (rest == 0 || (client[whole] ^ self.address[whole]) >> (8 - rest) == 0)
    }
}

/// The bytes of an IPv4 or IPv6 address. Addresses of one kind never match the other.
fn address(text: &str) -> Option<Vec<u8>> {
    if text.contains(':') {
        let address = text.parse::<std::net::Ipv6Addr>().ok()?;
        // ZooKeeper knows no dotted form within an IPv6 address.
        (!text.contains('.')).then(|| address.octets().to_vec())
    } else {
        let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
        parts.filter(|parts| parts.len() == 4)
    }
}
