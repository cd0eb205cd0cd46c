//! What the log consists of: batches of commands.

mod encoding;

use crate::{Acl, CreateMode, Id, OpError, PodId, SessionId, Zxid};

/// Commands that were ordered together. One entry of the shared log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The transaction of the first command. Each following command has the next one, whether it
    /// has an effect or not: so zxids are known before anything is applied.
    pub first: Zxid,
    /// When the batch was ordered, in milliseconds since 1970. Time never goes back: the machine
    /// takes a later time for it if it knows one.
    pub time_ms: i64,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

/// What a pod wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The pod that sent it. The sequencer's own commands have none: a batch is appended once.
    pub origin: Option<Origin>,
    /// The session on whose behalf it is done.
    pub session: SessionId,
    /// The identities that the client has proved.
    pub caller: Vec<Id>,
    /// What to do.
    pub kind: Kind,
}

/// A command's place among those of a pod. A pod sends a command again if it doesn't know whether
/// the command is in the log; it is applied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The pod.
    pub pod: PodId,
    /// One for the pod's [`Kind::RegisterPod`], then one more for each command.
    pub number: u64,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One operation of a session.
    Write(Op),
    /// Several operations of a session: all of them, or none.
    Multi(Vec<Op>),
    /// Opens the command's session, whose id is not zero. If there is one with this id, the command
    /// is refused with [`OpError::SessionMoved`], and the pod chooses another id.
    CreateSession {
        /// After how long without a sign of life the session may be closed.
        timeout_ms: u32,
        /// What a client that comes back has to show.
        password: Password,
    },
    /// Moves the command's session to the pod that sends it. Writes through other pods are refused
    /// from then on, so that none overtakes or follows the client's move.
    AttachSession {
        /// The new timeout.
        timeout_ms: u32,
        /// What the client showed.
        password: Password,
    },
    /// Closes the command's session, and deletes its ephemeral nodes in one transaction. Nothing
    /// happens to a session that does not exist.
    CloseSession,
    /// Closes the command's session as [`CloseSession`](Self::CloseSession) does, since its timeout
    /// has passed. The sequencer sends it. It is refused with [`OpError::SessionMoved`] if the
    /// session was attached since the sequencer looked: the client is back.
    ExpireSession {
        /// The [`SessionInfo::attached`](crate::SessionInfo::attached) that the sequencer saw.
        attached: Zxid,
    },
    /// Deletes a container that has no children any more, or a node whose TTL has passed.
    Reap {
        /// The node.
        path: String,
    },
    /// Sets the data of `/zookeeper/config`, which no client may set.
    SetConfig {
        /// The pods of the service, in ZooKeeper's format.
        data: Vec<u8>,
    },
    /// Makes a pod known. Its commands are refused before. It is refused with
    /// [`UnknownPod`](crate::Refused::UnknownPod) if the log has forgotten a pod since: this may be
    /// that one, and late copies of its commands would be executed again. A pod that just starts
    /// takes a new id and tries again.
    RegisterPod {
        /// The last transaction that the pod had applied when it took its id.
        seen: Zxid,
    },
    /// Forgets a pod that is one of [`Machine::idle_pods`](crate::Machine::idle_pods). The
    /// sequencer sends it. It is refused if the pod is in use again. The pod's commands are refused
    /// from then on; a pod that still runs takes a new id.
    ForgetPod {
        /// The pod.
        pod: PodId,
        /// The number of its last command that the sequencer saw.
        last: u64,
    },
    /// Does nothing. It takes the number of a command that its pod has given up.
    Nothing,
}

impl Kind {
    /// Whether this registers a pod that has seen the transaction which last forgot one.
    pub(crate) fn is_registration_after(&self, forgotten: Zxid) -> bool {
        matches!(*self, Self::RegisterPod { seen } if seen >= forgotten)
    }
}

/// A secret of a session, or a digest of it: it is only compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Password([u8; 16]);

impl Password {
    /// Wraps the bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn get(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Secrets are not printed.
impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// An operation on a node. A version of -1 is any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates a node.
    Create {
        /// Its path. A sequential node's number is appended.
        path: String,
        /// Its data. ZooKeeper tells no data from empty data.
        data: Option<Vec<u8>>,
        /// Its access control list.
        acl: Vec<Acl>,
        /// What ends it.
        mode: CreateMode,
        /// The TTL of the modes that have one; negative for all others.
        ttl_ms: i64,
    },
    /// Deletes a node without children.
    Delete {
        /// The node.
        path: String,
        /// The version that it must have.
        version: i32,
    },
    /// Sets a node's data.
    SetData {
        /// The node.
        path: String,
        /// The data.
        data: Option<Vec<u8>>,
        /// The version that it must have.
        version: i32,
    },
    /// Sets a node's access control list. ZooKeeper does not allow it in a multi.
    SetAcl {
        /// The node.
        path: String,
        /// The list.
        acl: Vec<Acl>,
        /// The `aversion` that it must have.
        version: i32,
    },
    /// Checks a node's version.
    Check {
        /// The node.
        path: String,
        /// The version that it must have.
        version: i32,
    },
}

impl Op {
    /// The path that the client gave.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Create { path, .. }
            | Self::Delete { path, .. }
            | Self::SetData { path, .. }
            | Self::SetAcl { path, .. }
            | Self::Check { path, .. } => path,
        }
    }
}

/// The version after `current`, if it is the one that the caller expects.
pub(crate) fn next_version(current: i32, expected: i32) -> Result<i32, OpError> {
    if expected != -1 && expected != current {
        return Err(OpError::BadVersion);
    }
    Ok(current.wrapping_add(1))
}

#[cfg(test)]
mod tests;
