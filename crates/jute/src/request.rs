//! The bodies of requests.

use bytes::Bytes;
use bytestring::ByteString;

use crate::codes::{AddWatchMode, WatcherType};
use crate::data::Acl;
use crate::multi::{MultiReadRequest, MultiRequest};

record! {
    /// Body of `create`, `create2` and `createContainer`.
    CreateRequest {
        /// The path; of a sequential node, without its number.
        path: ByteString,
        /// The data. Null is kept as null.
        data: Option<Bytes>,
        /// The ACL. Null and empty ones are invalid.
        acl: Option<Vec<Acl>>,
        /// A [`crate::CreateMode`], if it is valid.
        flags: i32,
    }

    /// Body of `createTTL`.
    CreateTtlRequest {
        /// The path; of a sequential node, without its number.
        path: ByteString,
        /// The data. Null is kept as null.
        data: Option<Bytes>,
        /// The ACL. Null and empty ones are invalid.
        acl: Option<Vec<Acl>>,
        /// A [`crate::CreateMode`], if it is valid.
        flags: i32,
        /// The time to live, in milliseconds.
        ttl_ms: i64,
    }

    /// Body of `delete`.
    DeleteRequest {
        /// The node.
        path: ByteString,
        /// The version that it must have; -1 for any.
        version: i32,
    }

    /// Body of `deleteContainer`.
    DeleteContainerRequest {
        /// The node.
        path: ByteString,
    }

    /// Body of `exists`.
    ExistsRequest {
        /// The node.
        path: ByteString,
        /// Whether to set a watch, which is set even if the node doesn't exist.
        watch: bool,
    }

    /// Body of `getData`.
    GetDataRequest {
        /// The node.
        path: ByteString,
        /// Whether to set a data watch.
        watch: bool,
    }

    /// Body of `setData`.
    SetDataRequest {
        /// The node.
        path: ByteString,
        /// The new data. Null is kept as null.
        data: Option<Bytes>,
        /// The version that it must have; -1 for any.
        version: i32,
    }

    /// Body of `getACL`.
    GetAclRequest {
        /// The node.
        path: ByteString,
    }

    /// Body of `setACL`.
    SetAclRequest {
        /// The node.
        path: ByteString,
        /// The new ACL. Null and empty ones are invalid.
        acl: Option<Vec<Acl>>,
        /// The ACL version that it must have; -1 for any.
        version: i32,
    }

    /// Body of `getChildren`.
    GetChildrenRequest {
        /// The node.
        path: ByteString,
        /// Whether to set a child watch.
        watch: bool,
    }

    /// Body of `getChildren2`.
    GetChildren2Request {
        /// The node.
        path: ByteString,
        /// Whether to set a child watch.
        watch: bool,
    }

    /// Body of `getAllChildrenNumber`.
    GetAllChildrenNumberRequest {
        /// The node.
        path: ByteString,
    }

    /// Body of `getEphemerals`.
    GetEphemeralsRequest {
        /// The start of the paths to list. Null, blank and `/` list all.
        prefix_path: Option<ByteString>,
    }

    /// Body of `sync`.
    SyncRequest {
        /// Repeated in the reply. It selects nothing.
        path: ByteString,
    }

    /// Body of `check`.
    CheckVersionRequest {
        /// The node.
        path: ByteString,
        /// The version that it must have; -1 for any.
        version: i32,
    }

    /// Body of `reconfig`: changes by members that join and leave, or the list of all members.
    ReconfigRequest {
        /// The members that join, separated by commas.
        joining_servers: Option<ByteString>,
        /// The ids of the members that leave, separated by commas.
        leaving_servers: Option<ByteString>,
        /// All members. If it isn't null, the other two are ignored.
        new_members: Option<ByteString>,
        /// The version that the configuration must have; -1 for any.
        cur_config_id: i64,
    }

    /// Body of `checkWatches`.
    CheckWatchesRequest {
        /// The node.
        path: ByteString,
        /// The kind of watch.
        kind: WatcherType,
    }

    /// Body of `removeWatches`.
    RemoveWatchesRequest {
        /// The node.
        path: ByteString,
        /// The kind of watch.
        kind: WatcherType,
    }

    /// Body of `addWatch`.
    AddWatchRequest {
        /// The node.
        path: ByteString,
        /// The kind of watch.
        mode: AddWatchMode,
    }

    /// Body of `setWatches`.
    SetWatches {
        /// The newest zxid that the client has seen.
        relative_zxid: i64,
        /// The nodes with watches of their data.
        data_watches: Vec<ByteString>,
        /// The nodes with watches of their existence, which didn't exist.
        exist_watches: Vec<ByteString>,
        /// The nodes with watches of their list of children.
        child_watches: Vec<ByteString>,
    }

    /// Body of `setWatches2`.
    SetWatches2 {
        /// The newest zxid that the client has seen.
        relative_zxid: i64,
        /// The nodes with watches of their data.
        data_watches: Vec<ByteString>,
        /// The nodes with watches of their existence, which didn't exist.
        exist_watches: Vec<ByteString>,
        /// The nodes with watches of their list of children.
        child_watches: Vec<ByteString>,
        /// The nodes with persistent watches.
        persistent_watches: Vec<ByteString>,
        /// The nodes with persistent recursive watches.
        persistent_recursive_watches: Vec<ByteString>,
    }

    /// Body of `auth`.
    AuthPacket {
        /// Without a meaning; clients send zero.
        kind: i32,
        /// The scheme. One that the server doesn't know fails, as null does.
        scheme: Option<ByteString>,
        /// What the scheme needs, for example `user:password`.
        auth: Option<Bytes>,
    }

    /// Body of `sasl`.
    GetSaslRequest {
        /// The mechanism's token.
        token: Bytes,
    }

    /// Body of `createSession`.
    CreateSessionRequest {
        /// The session timeout.
        timeout_ms: i32,
    }
}

messages! {
    /// A request, by operation.
    Request {
        /// Create a node.
        Create(CreateRequest),
        /// Create a node, with its Stat in the reply.
        Create2(CreateRequest),
        /// Create a container.
        CreateContainer(CreateRequest),
        /// Create a node with a TTL.
        CreateTtl(CreateTtlRequest),
        /// Delete a node.
        Delete(DeleteRequest),
        /// Delete an empty container.
        DeleteContainer(DeleteContainerRequest),
        /// Read a node's Stat.
        Exists(ExistsRequest),
        /// Read a node's data.
        GetData(GetDataRequest),
        /// Replace a node's data.
        SetData(SetDataRequest),
        /// Read a node's ACL.
        GetAcl(GetAclRequest),
        /// Replace a node's ACL.
        SetAcl(SetAclRequest),
        /// List a node's children.
        GetChildren(GetChildrenRequest),
        /// List a node's children, with its Stat.
        GetChildren2(GetChildren2Request),
        /// Count a node's descendants.
        GetAllChildrenNumber(GetAllChildrenNumberRequest),
        /// List the session's ephemeral nodes.
        GetEphemerals(GetEphemeralsRequest),
        /// Catch up with the leader.
        Sync(SyncRequest),
        /// Check a node's version. ZooKeeper refuses it outside a multi.
        Check(CheckVersionRequest),
        /// Several writes as one transaction.
        Multi(MultiRequest),
        /// Several reads.
        MultiRead(MultiReadRequest),
        /// Change the members.
        Reconfig(ReconfigRequest),
        /// Ask about a watch.
        CheckWatches(CheckWatchesRequest),
        /// Remove watches.
        RemoveWatches(RemoveWatchesRequest),
        /// Set a persistent watch.
        AddWatch(AddWatchRequest),
        /// Set one-time watches again.
        SetWatches(SetWatches),
        /// Set all kinds of watches again.
        SetWatches2(SetWatches2),
        /// Add an identity to the connection.
        Auth(AuthPacket),
        /// One step of a SASL exchange.
        Sasl(GetSaslRequest),
        /// Create a session. Clients have no use for it.
        CreateSession(CreateSessionRequest),
    }
    empty {
        /// Keep the session alive.
        Ping,
        /// Ask for the connection's identities.
        WhoAmI,
        /// End the session.
        CloseSession,
    }
}
