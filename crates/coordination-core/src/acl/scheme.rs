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

/// Whether the identity that is in a list means one of the caller's.
pub(super) fn is_one_of(granted: &Id, caller: &[Id]) -> bool {
    let mut ids = caller
        .iter()
        .filter(|id| id.scheme == granted.scheme)
        .map(|id| id.id.as_str());
    match granted.scheme.as_str() {
        "digest" | "x509" => ids.any(|id| id == granted.id),
        "sasl" => ids.any(|id| id == "super" || id == granted.id),
        "ip" => Network::parse(&granted.id).is_some_and(|net| ids.any(|id| net.contains(id))),
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
    address: Address,
    bits: usize,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (Address::parse(text)?, None),
            Some((text, bits)) => (Address::parse(text)?, Some(bits.parse().ok()?)),
        };
        let all = address.bytes().len() * 8;
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { address, bits })
    }

    fn contains(&self, client: &str) -> bool {
        let Some(client) = Address::parse(client) else {
            return false;
        };
        let (client, own) = (client.bytes(), self.address.bytes());
        let (whole, rest) = (self.bits / 8, self.bits % 8);
        client.len() == own.len()
            && client[..whole] == own[..whole]
            && (rest == 0 || (client[whole] ^ own[whole]) >> (8 - rest) == 0)
    }
}

/// An address. Those of one kind never match the other.
enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        if text.contains(':') {
            // ZooKeeper knows no dotted form within an IPv6 address.
            let address = text.parse::<std::net::Ipv6Addr>().ok()?;
            return (!text.contains('.')).then(|| Self::V6(address.octets()));
        }
        let mut parts = text.split('.').map(str::parse);
        let mut next = || parts.next()?.ok();
        let address = [next()?, next()?, next()?, next()?];
        parts.next().is_none().then_some(Self::V4(address))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        }
    }
}
