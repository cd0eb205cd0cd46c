//! Numbers with a meaning: operations, errors, events, modes.

use bytes::{Bytes, BytesMut};

use crate::error::{DecodeError, UnknownCode};
use crate::wire::{Decode, Encode};

/// Declares an enum of numbers, which are encoded as `i32`.
macro_rules! codes {
    ($(
        $(#[$attribute:meta])*
        $name:ident as $kind:literal { $($(#[$code_attribute:meta])* $code:ident = $value:literal,)+ }
    )+) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum $name {
            $($(#[$code_attribute])* $code = $value,)+
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$code,)+];

            /// The number that stands for it.
            #[must_use]
            pub const fn code(self) -> i32 {
                self as i32
            }
        }

        impl TryFrom<i32> for $name {
            type Error = UnknownCode;

            fn try_from(value: i32) -> Result<Self, UnknownCode> {
                match value {
                    $($value => Ok(Self::$code),)+
                    _ => Err(UnknownCode { kind: $kind, value }),
                }
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut BytesMut) {
                self.code().encode(out);
            }

            fn encoded_len(&self) -> usize {
                4
            }
        }

        impl Decode for $name {
            const MIN_LEN: usize = 4;

            fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
                Ok(Self::try_from(i32::decode(from)?)?)
            }
        }
    )+};
}

codes! {
    /// The operations of requests.
    OpCode as "operation" {
        /// Create a node; the reply is its path.
        Create = 1,
        /// Delete a node.
        Delete = 2,
        /// A node's Stat, or the error that it doesn't exist.
        Exists = 3,
        /// A node's data and Stat.
        GetData = 4,
        /// Replace a node's data.
        SetData = 5,
        /// A node's ACL and Stat.
        GetAcl = 6,
        /// Replace a node's ACL.
        SetAcl = 7,
        /// The names of a node's children.
        GetChildren = 8,
        /// Catch up with the leader.
        Sync = 9,
        /// Keep the session alive.
        Ping = 11,
        /// The names of a node's children, and its Stat.
        GetChildren2 = 12,
        /// Check a node's version; only inside a multi.
        Check = 13,
        /// Several writes as one transaction.
        Multi = 14,
        /// Create a node; the reply is its path and Stat.
        Create2 = 15,
        /// Change the ensemble's members.
        Reconfig = 16,
        /// Whether the connection has such a watch.
        CheckWatches = 17,
        /// Remove the connection's watches of a node.
        RemoveWatches = 18,
        /// Create a node that is deleted when its last child is gone.
        CreateContainer = 19,
        /// Delete an empty container; ZooKeeper's servers send it to themselves.
        DeleteContainer = 20,
        /// Create a node that is deleted when it is empty and unchanged for its TTL.
        CreateTtl = 21,
        /// Several reads with one reply.
        MultiRead = 22,
        /// Add an identity to the connection.
        Auth = 100,
        /// Set one-time watches again after a reconnect.
        SetWatches = 101,
        /// One step of a SASL exchange.
        Sasl = 102,
        /// The session's ephemeral nodes.
        GetEphemerals = 103,
        /// The number of a node's descendants.
        GetAllChildrenNumber = 104,
        /// Set all kinds of watches again after a reconnect.
        SetWatches2 = 105,
        /// Set a persistent watch.
        AddWatch = 106,
        /// The connection's identities.
        WhoAmI = 107,
        /// Create a session; ZooKeeper's servers send it to themselves.
        CreateSession = -10,
        /// End the session.
        CloseSession = -11,
    }

    /// The errors in replies. Zero, success, is not among them.
    ErrorCode as "error code" {
        /// A server error without a code of its own.
        SystemError = -1,
        /// In the result of a multi: not executed, because an earlier operation failed.
        RuntimeInconsistency = -2,
        /// The server found its data inconsistent.
        DataInconsistency = -3,
        /// The connection to the server was lost.
        ConnectionLoss = -4,
        /// The request can't be read.
        MarshallingError = -5,
        /// The operation is unknown or switched off.
        Unimplemented = -6,
        /// The operation took too long.
        OperationTimeout = -7,
        /// An argument is invalid.
        BadArguments = -8,
        /// No such session.
        UnknownSession = -12,
        /// The new members have no quorum that is up to date.
        NewConfigNoQuorum = -13,
        /// Another change of members is in progress.
        ReconfigInProgress = -14,
        /// The border between system errors and API errors.
        ApiError = -100,
        /// The node doesn't exist.
        NoNode = -101,
        /// The ACL doesn't permit the operation.
        NoAuth = -102,
        /// The node has another version.
        BadVersion = -103,
        /// An ephemeral node can't have children.
        NoChildrenForEphemerals = -108,
        /// The node exists already.
        NodeExists = -110,
        /// The node has children.
        NotEmpty = -111,
        /// The session has expired.
        SessionExpired = -112,
        /// A client's callback is invalid.
        InvalidCallback = -113,
        /// The ACL is invalid.
        InvalidAcl = -114,
        /// The authentication failed.
        AuthFailed = -115,
        /// The session is on another server now; closes the connection.
        SessionMoved = -118,
        /// A write on a server in read-only mode.
        NotReadOnly = -119,
        /// A local session can't have ephemeral nodes.
        EphemeralOnLocalSession = -120,
        /// The connection has no such watch.
        NoWatcher = -121,
        /// The request took too long.
        RequestTimeout = -122,
        /// Changes of members are switched off.
        ReconfigDisabled = -123,
        /// The session was closed because the server requires SASL.
        SessionClosedRequireSaslAuth = -124,
        /// A quota would be exceeded.
        QuotaExceeded = -125,
        /// The server is overloaded.
        ThrottledOp = -127,
    }

    /// What happened to a watched node.
    EventType as "event" {
        /// Nothing: the event is about the connection's state.
        None = -1,
        /// The node was created.
        NodeCreated = 1,
        /// The node was deleted.
        NodeDeleted = 2,
        /// The node's data was replaced.
        NodeDataChanged = 3,
        /// A child was created or deleted.
        NodeChildrenChanged = 4,
        /// A client removed its data watch.
        DataWatchRemoved = 5,
        /// A client removed its child watch.
        ChildWatchRemoved = 6,
        /// A client removed its persistent watch.
        PersistentWatchRemoved = 7,
    }

    /// The state of a client's connection.
    KeeperState as "connection state" {
        /// Unused since ZooKeeper 3.1.
        Unknown = -1,
        /// Not connected.
        Disconnected = 0,
        /// Unused since ZooKeeper 3.1.
        NoSyncConnected = 1,
        /// Connected to a server with a quorum. Servers send only this one.
        SyncConnected = 3,
        /// The authentication failed.
        AuthFailed = 4,
        /// Connected to a server in read-only mode.
        ConnectedReadOnly = 5,
        /// Authenticated by SASL.
        SaslAuthenticated = 6,
        /// Closed by the client.
        Closed = 7,
        /// The session has expired.
        Expired = -112,
    }

    /// The kinds of nodes that a create can ask for.
    CreateMode as "create mode" {
        /// Stays until it is deleted.
        Persistent = 0,
        /// Deleted at the end of the session.
        Ephemeral = 1,
        /// Persistent, with a number appended to its name.
        PersistentSequential = 2,
        /// Ephemeral, with a number appended to its name.
        EphemeralSequential = 3,
        /// Deleted after its last child.
        Container = 4,
        /// Deleted when it is empty and unchanged for its TTL.
        PersistentWithTtl = 5,
        /// With a TTL, and a number appended to its name.
        PersistentSequentialWithTtl = 6,
    }

    /// The modes of [`OpCode::AddWatch`].
    AddWatchMode as "watch mode" {
        /// The node and the list of its children.
        Persistent = 0,
        /// The node and all its descendants.
        PersistentRecursive = 1,
    }

    /// The watches that a client can ask about or remove.
    WatcherType as "watcher type" {
        /// One-time watches of a list of children.
        Children = 1,
        /// One-time watches of a node's data or existence.
        Data = 2,
        /// All of them.
        Any = 3,
        /// Persistent watches.
        Persistent = 4,
        /// Persistent recursive watches.
        PersistentRecursive = 5,
    }
}

impl CreateMode {
    /// Whether the node ends with its session.
    #[must_use]
    pub fn is_ephemeral(self) -> bool {
        matches!(self, Self::Ephemeral | Self::EphemeralSequential)
    }

    /// Whether a number is appended to the node's name.
    #[must_use]
    pub fn is_sequential(self) -> bool {
        matches!(
            self,
            Self::PersistentSequential
                | Self::EphemeralSequential
                | Self::PersistentSequentialWithTtl
        )
    }

    /// Whether the node has a TTL.
    #[must_use]
    pub fn has_ttl(self) -> bool {
        matches!(
            self,
            Self::PersistentWithTtl | Self::PersistentSequentialWithTtl
        )
    }
}

/// The bits of an ACL's permissions.
pub mod permission {
    /// Read the data and the list of children.
    pub const READ: i32 = 1;
    /// Replace the data.
    pub const WRITE: i32 = 1 << 1;
    /// Create children.
    pub const CREATE: i32 = 1 << 2;
    /// Delete children.
    pub const DELETE: i32 = 1 << 3;
    /// Replace the ACL.
    pub const ADMIN: i32 = 1 << 4;
    /// All of them.
    pub const ALL: i32 = READ | WRITE | CREATE | DELETE | ADMIN;
}

/// The xids with a fixed meaning. Those of requests are otherwise the client's own, from 1 up.
pub mod xid {
    /// Of an event.
    pub const EVENT: i32 = -1;
    /// Of a ping and its reply.
    pub const PING: i32 = -2;
    /// Of an authentication and its reply.
    pub const AUTH: i32 = -4;
    /// Of the watches set again after a reconnect, and the reply.
    pub const SET_WATCHES: i32 = -8;
}
