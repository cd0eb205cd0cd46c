//! The bodies of replies and events.

use bytes::Bytes;
use bytestring::ByteString;

use crate::codes::{EventType, KeeperState};
use crate::data::{Acl, ClientInfo, Stat};
use crate::multi::MultiResponse;

record! {
    /// Reply to `create`.
    CreateResponse {
        /// The path, with its number if the node is sequential.
        path: ByteString,
    }

    /// Reply to `create2`, `createContainer` and `createTTL`.
    Create2Response {
        /// The path, with its number if the node is sequential.
        path: ByteString,
        /// The node's Stat.
        stat: Stat,
    }

    /// Reply to `exists`.
    ExistsResponse {
        /// The node's Stat.
        stat: Stat,
    }

    /// Reply to `getData`, and to `reconfig` with the new configuration.
    GetDataResponse {
        /// The data.
        data: Option<Bytes>,
        /// The node's Stat.
        stat: Stat,
    }

    /// Reply to `setData`.
    SetDataResponse {
        /// The node's Stat after the change.
        stat: Stat,
    }

    /// Reply to `getACL`.
    GetAclResponse {
        /// The ACL.
        acl: Vec<Acl>,
        /// The node's Stat.
        stat: Stat,
    }

    /// Reply to `setACL`.
    SetAclResponse {
        /// The node's Stat after the change.
        stat: Stat,
    }

    /// Reply to `getChildren`.
    GetChildrenResponse {
        /// The children's names, in no order.
        children: Vec<ByteString>,
    }

    /// Reply to `getChildren2`.
    GetChildren2Response {
        /// The children's names, in no order.
        children: Vec<ByteString>,
        /// The node's Stat.
        stat: Stat,
    }

    /// Reply to `getAllChildrenNumber`.
    GetAllChildrenNumberResponse {
        /// The number of descendants.
        total_number: i32,
    }

    /// Reply to `getEphemerals`.
    GetEphemeralsResponse {
        /// The paths, in no order.
        ephemerals: Vec<ByteString>,
    }

    /// Reply to `sync`.
    SyncResponse {
        /// The path of the request.
        path: ByteString,
    }

    /// Reply to `addWatch`, and the result of a failed operation in a multi.
    #[derive(Copy)]
    ErrorResponse {
        /// Zero, or an [`crate::ErrorCode`].
        err: i32,
    }

    /// Reply to `sasl`.
    SetSaslResponse {
        /// The mechanism's token. Null at the end of some mechanisms.
        token: Option<Bytes>,
    }

    /// Reply to `whoAmI`.
    WhoAmIResponse {
        /// The connection's identities.
        client_info: Vec<ClientInfo>,
    }

    /// A watch that fired.
    WatcherEvent {
        /// What happened.
        kind: EventType,
        /// The connection's state: servers send [`KeeperState::SyncConnected`].
        state: KeeperState,
        /// The node.
        path: ByteString,
    }
}

messages! {
    /// The reply to a request that succeeded, by operation.
    Response {
        /// The path.
        Create(CreateResponse),
        /// The path and Stat.
        Create2(Create2Response),
        /// The path and Stat.
        CreateContainer(Create2Response),
        /// The path and Stat.
        CreateTtl(Create2Response),
        /// The Stat.
        Exists(ExistsResponse),
        /// The data and Stat.
        GetData(GetDataResponse),
        /// The new Stat.
        SetData(SetDataResponse),
        /// The ACL and Stat.
        GetAcl(GetAclResponse),
        /// The new Stat.
        SetAcl(SetAclResponse),
        /// The children.
        GetChildren(GetChildrenResponse),
        /// The children and Stat.
        GetChildren2(GetChildren2Response),
        /// The number of descendants.
        GetAllChildrenNumber(GetAllChildrenNumberResponse),
        /// The session's ephemeral nodes.
        GetEphemerals(GetEphemeralsResponse),
        /// The path of the request.
        Sync(SyncResponse),
        /// The results of the operations, also of a transaction that failed.
        Multi(MultiResponse),
        /// The results of the reads.
        MultiRead(MultiResponse),
        /// The new configuration, and the Stat of its node.
        Reconfig(GetDataResponse),
        /// Zero.
        AddWatch(ErrorResponse),
        /// The mechanism's token.
        Sasl(SetSaslResponse),
        /// The connection's identities.
        WhoAmI(WhoAmIResponse),
    }
    empty {
        /// Deleted.
        Delete,
        /// Deleted.
        DeleteContainer,
        /// Alive.
        Ping,
        /// Never sent: outside a multi, a check is refused.
        Check,
        /// There is such a watch.
        CheckWatches,
        /// Removed.
        RemoveWatches,
        /// Set. Events may have come before.
        SetWatches,
        /// Set. Events may have come before.
        SetWatches2,
        /// Authenticated.
        Auth,
        /// Never sent with a reply header.
        CreateSession,
        /// Closed; the connection ends.
        CloseSession,
    }
}
