//! What a node is: its [`Stat`], its owner, and how it is created.

use crate::{OpError, SessionId, Zxid};

/// What clients see of a node besides its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stat {
    /// The transaction that created the node.
    pub czxid: Zxid,
    /// The transaction that last set its data.
    pub mzxid: Zxid,
    /// When it was created, in milliseconds since 1970.
    pub ctime_ms: i64,
    /// When its data was last set, in milliseconds since 1970.
    pub mtime_ms: i64,
    /// How often its data was set. It wraps.
    pub version: i32,
    /// How often children were created or deleted. It wraps.
    pub cversion: i32,
    /// How often its ACL was set. It wraps.
    pub aversion: i32,
    /// The session of an ephemeral node; zero for all other nodes, also for containers and nodes
    /// with a TTL.
    pub ephemeral_owner: SessionId,
    /// The length of its data in bytes.
    pub data_length: i32,
    /// The number of its children.
    pub num_children: i32,
    /// The transaction that last created or deleted a child, or the node itself.
    pub pzxid: Zxid,
}

/// What decides about a node's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Owner {
    /// It is deleted by clients alone.
    #[default]
    None,
    /// It is deleted with this session.
    Session(SessionId),
    /// It may be reaped once it has had children and has none.
    Container,
    /// It may be reaped when it has no children and its data was not set for this long.
    Ttl {
        /// In milliseconds, positive and at most [`Owner::MAX_TTL_MS`].
        ttl_ms: i64,
    },
}

impl Owner {
    /// The longest TTL that ZooKeeper's marker can express: 2^40 - 1 ms.
    pub const MAX_TTL_MS: i64 = 0xff_ffff_ffff;

    /// The `ephemeralOwner` by which ZooKeeper's snapshots mark such a node. Clients see it of
    /// ephemeral nodes only ([`Stat::ephemeral_owner`]).
    #[must_use]
    pub const fn marker(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Session(id) => id.get(),
            Self::Container => i64::MIN,
            Self::Ttl { ttl_ms } => (0xff << 56) | ttl_ms,
        }
    }

    pub(crate) fn session(self) -> Option<SessionId> {
        match self {
            Self::Session(id) => Some(id),
            Self::None | Self::Container | Self::Ttl { .. } => None,
        }
    }
}

/// How a node is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateMode {
    /// Until it is deleted.
    Persistent,
    /// Until it is deleted, with a sequence number.
    PersistentSequential,
    /// Until its session ends.
    Ephemeral,
    /// Until its session ends, with a sequence number.
    EphemeralSequential,
    /// Until its last child is gone.
    Container,
    /// Until its last child is gone, with a sequence number.
    ContainerSequential,
    /// Until it has no children and its TTL has passed.
    Ttl,
    /// Until it has no children and its TTL has passed, with a sequence number.
    TtlSequential,
}

impl CreateMode {
    /// The mode of ZooKeeper's create flag. No flag means a sequential container, but see
    /// [`container`](Self::container).
    ///
    /// # Errors
    /// [`OpError::BadArguments`] for an unknown flag.
    pub const fn from_flag(flag: i32) -> Result<Self, OpError> {
        Ok(match flag {
            0 => Self::Persistent,
            1 => Self::Ephemeral,
            2 => Self::PersistentSequential,
            3 => Self::EphemeralSequential,
            4 => Self::Container,
            5 => Self::Ttl,
            6 => Self::TtlSequential,
            _ => return Err(OpError::BadArguments),
        })
    }

    /// The mode of the request `createContainer`. As in ZooKeeper, the flag only says whether the
    /// container is sequential.
    ///
    /// # Errors
    /// [`OpError::BadArguments`] for an unknown flag, or one that needs a TTL.
    pub const fn container(flag: i32) -> Result<Self, OpError> {
        Ok(match Self::from_flag(flag) {
            Ok(Self::Persistent | Self::Ephemeral | Self::Container) => Self::Container,
            Ok(Self::PersistentSequential | Self::EphemeralSequential) => Self::ContainerSequential,
            Ok(Self::ContainerSequential | Self::Ttl | Self::TtlSequential) | Err(_) => {
                return Err(OpError::BadArguments);
            }
        })
    }

    /// ZooKeeper's create flag; of a sequential container, the one that `createContainer` takes.
    #[must_use]
    pub const fn flag(self) -> i32 {
        match self {
            Self::Persistent => 0,
            Self::Ephemeral => 1,
            Self::PersistentSequential | Self::ContainerSequential => 2,
            Self::EphemeralSequential => 3,
            Self::Container => 4,
            Self::Ttl => 5,
            Self::TtlSequential => 6,
        }
    }

    /// Whether the parent's counter is appended to the name.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        matches!(
            self,
            Self::PersistentSequential
                | Self::EphemeralSequential
                | Self::ContainerSequential
                | Self::TtlSequential
        )
    }

    /// The owner of a node created in this mode. A TTL is given for the modes that have one, and
    /// only for these; any negative value means none.
    pub(crate) fn owner(self, session: SessionId, ttl_ms: i64) -> Result<Owner, OpError> {
        let is_valid = match self {
            Self::Ttl | Self::TtlSequential => (1..=Owner::MAX_TTL_MS).contains(&ttl_ms),
            Self::Persistent
            | Self::PersistentSequential
            | Self::Ephemeral
            | Self::EphemeralSequential
            | Self::Container
            | Self::ContainerSequential => ttl_ms < 0,
        };
        if !is_valid {
            return Err(OpError::BadArguments);
        }
        Ok(match self {
            Self::Persistent | Self::PersistentSequential => Owner::None,
            Self::Ephemeral | Self::EphemeralSequential => Owner::Session(session),
            Self::Container | Self::ContainerSequential => Owner::Container,
            Self::Ttl | Self::TtlSequential => Owner::Ttl { ttl_ms },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::CreateMode::{Container, ContainerSequential};
    use super::*;

    #[test]
    fn a_flag_says_only_whether_a_container_is_sequential() {
        let modes = (-1..9).map(|flag| CreateMode::container(flag).ok());
        let (plain, sequential) = (Some(Container), Some(ContainerSequential));
        let expected = [
            None, plain, plain, sequential, sequential, plain, None, None, None, None,
        ];
        assert!(modes.eq(expected));
        for mode in [Container, ContainerSequential] {
            assert_eq!(CreateMode::container(mode.flag()), Ok(mode));
        }
        assert_eq!(CreateMode::from_flag(7), Err(OpError::BadArguments));
    }
}
