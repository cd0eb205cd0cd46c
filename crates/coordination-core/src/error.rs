//! Why an operation was refused or stored bytes are unusable.

use crate::PodId;

/// Why an operation was refused. It changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpError {
    /// A path, mode or TTL is not valid.
    #[error("bad arguments")]
    BadArguments,
    /// The node, or the parent of a new node, does not exist.
    #[error("no such node")]
    NoNode,
    /// The node's ACL, or its parent's, does not let the caller do this.
    #[error("not authorized by the access control list")]
    NoAuth,
    /// The node has another version than the caller expects.
    #[error("another version than expected")]
    BadVersion,
    /// The parent of a new node is ephemeral.
    #[error("an ephemeral node has no children")]
    NoChildrenForEphemerals,
    /// The node exists already.
    #[error("the node exists")]
    NodeExists,
    /// The node has children.
    #[error("the node has children")]
    NotEmpty,
    /// The session is unknown: it was closed, or it expired.
    #[error("the session has expired")]
    SessionExpired,
    /// The ACL is empty, or contains an id that is not valid.
    #[error("invalid access control list")]
    InvalidAcl,
    /// The session has moved to another pod. ZooKeeper closes the connection.
    #[error("the session has moved to another pod")]
    SessionMoved,
    /// The write would exceed a hard limit.
    #[error("quota exceeded")]
    QuotaExceeded,
}

impl OpError {
    /// ZooKeeper's code of this error.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::BadArguments => -8,
            Self::NoNode => -101,
            Self::NoAuth => -102,
            Self::BadVersion => -103,
            Self::NoChildrenForEphemerals => -108,
            Self::NodeExists => -110,
            Self::NotEmpty => -111,
            Self::SessionExpired => -112,
            Self::InvalidAcl => -114,
            Self::SessionMoved => -118,
            Self::QuotaExceeded => -125,
        }
    }
}

/// Why a command had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// The operation was refused.
    #[error(transparent)]
    Op(#[from] OpError),
    /// An operation of a multi was refused, so none of them has an effect.
    #[error("operation {index}: {error}")]
    Multi {
        /// The first operation that was refused, counted from zero.
        index: usize,
        /// Why.
        error: OpError,
    },
    /// The command was applied before: the pod sent it twice.
    #[error("the command was applied before")]
    Duplicate,
    /// Commands of the same pod that precede this one are missing. The pod sends them again from
    /// this number.
    #[error("the pod's next command must have number {expected}")]
    Gap {
        /// The number that must come next.
        expected: u64,
    },
    /// The pod is not registered, or no longer. It takes a new id and registers.
    #[error("pod {0} is not registered")]
    UnknownPod(PodId),
    /// As many pods are registered as the table has room for. Forget some that are gone.
    #[error("too many pods are registered")]
    TooManyPods,
    /// The pod is not forgotten: it has sessions, or has sent commands lately.
    #[error("pod {0} is in use")]
    PodInUse(PodId),
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Bytes are missing.
    #[error("truncated")]
    Truncated,
    /// Bytes are left over.
    #[error("{0} trailing bytes")]
    Trailing(usize),
    /// The format of a later version.
    #[error("unknown format version {0}")]
    Version(u8),
    /// A field has a value that it can't have.
    #[error("invalid {0}")]
    Invalid(&'static str),
    /// The checksum does not match.
    #[error("checksum mismatch")]
    Checksum,
}

/// Why a batch was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch starts at zxid {first}, but {applied} is applied already")]
pub struct BatchOutOfOrder {
    /// The zxid of the batch's first command.
    pub first: crate::Zxid,
    /// The last zxid that was applied.
    pub applied: crate::Zxid,
}

/// Why a checkpoint can't be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A page is damaged.
    #[error("page {page}: {error}")]
    Page {
        /// The page.
        page: crate::PageId,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A page is missing, superfluous or of another checkpoint.
    #[error("page {0} does not belong to this checkpoint, or is missing")]
    WrongPage(crate::PageId),
    /// The pages contradict each other.
    #[error("inconsistent pages: {0}")]
    Inconsistent(&'static str),
}
