//! Who asks, and how they say so.

use std::fmt;
use std::sync::Arc;

use synod_proto::consensus::v1::Requester;
use tonic::metadata::MetadataMap;

/// The metadata key of a token in gRPC calls.
const TOKEN: &str = "token";
/// The same in HTTP requests.
const AUTHORIZATION: &str = "authorization";
const BEARER: &str = "Bearer ";
/// What etcd's gateway for JSON adds to the calls that it makes.
const GATEWAY: &str = "grpcgateway-accept";

/// Who makes a request, as the member that took it found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name. There need not be such a user any more.
    pub user: Arc<str>,
    /// The auth revision that the member, or the token, knew.
    pub revision: u64,
}

impl Identity {
    /// What goes into the log.
    #[must_use]
    pub fn to_requester(&self) -> Requester {
        Requester {
            user: self.user.to_string(),
            auth_revision: self.revision,
            member: false,
        }
    }
}

/// Who asked for a command, as its entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client that showed neither a token nor a certificate, or authentication was off.
    Nobody,
    /// A member proposed it itself, such as the end of a lease or an automatic compaction.
    Member,
    /// A client with this identity.
    User(Identity),
}

impl Origin {
    /// What came from the log.
    #[must_use]
    pub fn of(requester: Option<&Requester>) -> Self {
        match requester {
            None => Self::Nobody,
            Some(requester) if requester.member => Self::Member,
            Some(requester) => Self::User(Identity {
                user: requester.user.as_str().into(),
                revision: requester.auth_revision,
            }),
        }
    }

    /// What a member's own commands carry into the log.
    #[must_use]
    pub fn member_requester() -> Requester {
        Requester {
            member: true,
            ..Requester::default()
        }
    }

    /// The client's identity, if there is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::User(identity) => Some(identity),
            Self::Nobody | Self::Member => None,
        }
    }
}

/// What a request shows of its maker. Whether it holds is for
/// [`Auth::identify`](crate::Auth::identify) to say, once a request or message of a stream: a
/// token may end meanwhile.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    token: Option<Arc<str>>,
    common_name: Option<Arc<str>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("common_name", &self.common_name)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// What the metadata of a call and the certificate of its connection say. `common_name` is that
    /// of a client certificate that was verified; the caller leaves it out unless the server asks
    /// all its clients for certificates (`--client-cert-auth`).
    ///
    /// A common name stands for a user only where there is no token. It never does for requests
    /// that a gateway made: the certificate is the gateway's.
    #[must_use]
    pub fn new(metadata: &MetadataMap, common_name: Option<&Arc<str>>) -> Self {
        let of_token = metadata.get(TOKEN).or_else(|| metadata.get(AUTHORIZATION));
        if let Some(value) = of_token {
            // What isn't text is no token that anybody was given.
            let token = value.to_str().unwrap_or_default();
            return Self {
                token: Some(token.strip_prefix(BEARER).unwrap_or(token).into()),
                common_name: None,
            };
        }
        let counts = |name: &&Arc<str>| !name.is_empty() && !metadata.contains_key(GATEWAY);
        Self {
            token: None,
            common_name: common_name.filter(counts).cloned(),
        }
    }

    /// The token, without what precedes it in HTTP.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The user that the certificate names.
    pub(crate) fn common_name(&self) -> Option<&Arc<str>> {
        self.common_name.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &'static str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            metadata.append(*key, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn a_token_is_found_wherever_clients_put_it() {
        for (pairs, token) in [
            (&[("token", "abc.7")][..], Some("abc.7")),
            (&[("authorization", "abc.7")], Some("abc.7")),
            (&[("authorization", "Bearer abc.7")], Some("abc.7")),
            (&[("token", "Bearer abc.7")], Some("abc.7")),
            (&[("authorization", "bearer abc.7")], Some("bearer abc.7")),
            (&[("authorization", "Bearer x"), ("token", "y")], Some("y")),
            (&[("token", "first"), ("token", "second")], Some("first")),
            (&[("token", "")], Some("")),
            (&[("tokens", "abc")], None),
            (&[], None),
        ] {
            let credentials = Credentials::new(&metadata(pairs), None);
            assert_eq!(credentials.token(), token, "{pairs:?}");
        }
        let mut binary = MetadataMap::new();
        let bytes = tonic::metadata::MetadataValue::try_from(&b"\xfftoken"[..]).unwrap();
        binary.insert("token", bytes);
        assert_eq!(Credentials::new(&binary, None).token(), Some(""));
    }

    #[test]
    fn a_common_name_counts_without_a_token_and_not_for_a_gateway() {
        let name: Arc<str> = "alice".into();
        for (pairs, user) in [
            (&[][..], Some("alice")),
            (&[("token", "abc")], None),
            (&[("authorization", "Bearer abc")], None),
            (&[("grpcgateway-accept", "*/*")], None),
        ] {
            let credentials = Credentials::new(&metadata(pairs), Some(&name));
            let found = credentials.common_name().map(|name| &**name);
            assert_eq!(found, user, "{pairs:?}");
        }
        let nameless: Arc<str> = "".into();
        for nobody in [None, Some(&nameless)] {
            assert_eq!(
                Credentials::new(&metadata(&[]), nobody),
                Credentials::default()
            );
        }
    }

    #[test]
    fn a_requester_is_an_identity_in_the_log() {
        let identity = Identity {
            user: "alice".into(),
            revision: 9,
        };
        let origin = Origin::of(Some(&identity.to_requester()));
        assert_eq!(origin.identity(), Some(&identity));
        assert_eq!(origin, Origin::User(identity));
        let member = Origin::of(Some(&Origin::member_requester()));
        assert_eq!((member.identity(), &member), (None, &Origin::Member));
        assert_eq!(Origin::of(None), Origin::Nobody);
    }
}
