//! Every error of the gRPC API, and its status.
//!
//! [`Error::advice`] keeps "certainly not done" and "outcome unknown" apart.

use synod_coordination_core::OpError;
use synod_jute::ErrorCode;
use synod_service::{Advice, MalformedTimeout, status};
use tonic::{Code, Status};

use crate::hub::{CallError, Closed, ConnectError};

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    // The request is wrong.
    #[error("{what} is not valid: expected {expected}")]
    Invalid {
        what: &'static str,
        expected: &'static str,
    },
    #[error(transparent)]
    MalformedTimeout(#[from] MalformedTimeout),
    #[error("the first request of the stream must open or resume a session, and no later one may")]
    OutOfOrder,
    #[error("the session's secret is wrong")]
    WrongSecret,
    #[error("the request id was used for the lock in the other mode: choose another one")]
    OtherMode,

    // The session does not allow it.
    #[error(
        "this pod does not serve the session: call the pod that has its stream, or resume it here first"
    )]
    NotHere,
    #[error("the session has expired, or its secret is wrong: open another one")]
    Expired,
    #[error("the session was resumed with another stream")]
    Moved,
    #[error("the place in the queue was removed: it was broken or released meanwhile")]
    Removed,
    #[error("the session does not lead: campaign first")]
    NotLeader,

    #[error("the instance is not registered: register it first")]
    NotRegistered,
    #[error(
        "another session has registered the id: choose another one, or wait until that session has ended"
    )]
    Registered,
    #[error("the node is not that of an instance: another program has created it")]
    NoInstance,
    #[error("there are {limit} instances, the most there may be: use another service or pod")]
    TooManyInstances { limit: usize },

    // The tree does not allow it.
    #[error("no such node")]
    NoNode,
    #[error("the access control list does not permit it")]
    NoAuth,
    #[error("the node has another version")]
    BadVersion,
    #[error("the node exists")]
    NodeExists,
    #[error("the node has children")]
    NotEmpty,
    #[error("an ephemeral node can't have children")]
    NoChildrenForEphemerals,
    #[error("the access control list is not valid")]
    InvalidAcl,
    #[error("the path or an argument is not valid, or the request is too large")]
    BadArguments,
    #[error("a quota would be exceeded")]
    QuotaExceeded,

    // The state of the service does not allow it.
    #[error("this pod has no contact with the log: wait, or use another pod")]
    NotServing,
    #[error("this pod stops: use another pod")]
    Stopping,
    #[error("this pod has {limit} sessions, the most it takes: use another pod")]
    TooManySessions { limit: usize },
    #[error("too many requests or watches wait: try again later")]
    Throttled,
    #[error(
        "the deadline passed before it was the caller's turn, and the caller has left the queue"
    )]
    DeadlineExceeded,
    #[error("the connection to the log ended before the outcome was known: ask again")]
    Lost,
    #[error("unexpected answer from the state machine: {0:?}")]
    Internal(ErrorCode),
}

impl Error {
    /// What a caller can do about it.
    pub(crate) fn advice(&self) -> Advice {
        match self {
            Self::Invalid { .. }
            | Self::MalformedTimeout(_)
            | Self::OutOfOrder
            | Self::WrongSecret
            | Self::OtherMode
            | Self::InvalidAcl
            | Self::BadArguments => Advice::Invalid,
            Self::NotHere
            | Self::Expired
            | Self::Moved
            | Self::Removed
            | Self::NotLeader
            | Self::NotRegistered
            | Self::Registered
            | Self::NoInstance
            | Self::TooManyInstances { .. }
            | Self::NoNode
            | Self::NoAuth
            | Self::BadVersion
            | Self::NodeExists
            | Self::NotEmpty
            | Self::NoChildrenForEphemerals
            | Self::QuotaExceeded => Advice::Conflict,
            Self::NotServing
            | Self::Stopping
            | Self::TooManySessions { .. }
            | Self::Throttled
            | Self::DeadlineExceeded => Advice::Retry,
            Self::Lost => Advice::Unknown,
            Self::Internal(_) => Advice::Internal,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. }
            | Self::MalformedTimeout(_)
            | Self::OutOfOrder
            | Self::OtherMode
            | Self::InvalidAcl
            | Self::BadArguments => Code::InvalidArgument,
            Self::WrongSecret | Self::NoAuth => Code::PermissionDenied,
            Self::NotHere
            | Self::Expired
            | Self::NotLeader
            | Self::NoInstance
            | Self::BadVersion
            | Self::NotEmpty
            | Self::NoChildrenForEphemerals => Code::FailedPrecondition,
            Self::Moved | Self::Removed => Code::Aborted,
            Self::NoNode | Self::NotRegistered => Code::NotFound,
            Self::NodeExists | Self::Registered => Code::AlreadyExists,
            Self::QuotaExceeded
            | Self::TooManySessions { .. }
            | Self::TooManyInstances { .. }
            | Self::Throttled => Code::ResourceExhausted,
            Self::NotServing | Self::Stopping | Self::Lost => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Internal(_) => Code::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(error.code(), error.to_string(), error.advice())
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NoNode => Self::NoNode,
            ErrorCode::NoAuth => Self::NoAuth,
            ErrorCode::BadVersion => Self::BadVersion,
            ErrorCode::NodeExists => Self::NodeExists,
            ErrorCode::NotEmpty => Self::NotEmpty,
            ErrorCode::NoChildrenForEphemerals => Self::NoChildrenForEphemerals,
            ErrorCode::InvalidAcl => Self::InvalidAcl,
            ErrorCode::BadArguments | ErrorCode::MarshallingError => Self::BadArguments,
            ErrorCode::QuotaExceeded => Self::QuotaExceeded,
            ErrorCode::SessionExpired | ErrorCode::UnknownSession => Self::Expired,
            ErrorCode::SessionMoved => Self::Moved,
            ErrorCode::ThrottledOp => Self::Throttled,
            ErrorCode::ConnectionLoss => Self::Lost,
            ErrorCode::SystemError
            | ErrorCode::RuntimeInconsistency
            | ErrorCode::DataInconsistency
            | ErrorCode::Unimplemented
            | ErrorCode::OperationTimeout
            | ErrorCode::NewConfigNoQuorum
            | ErrorCode::ReconfigInProgress
            | ErrorCode::ApiError
            | ErrorCode::InvalidCallback
            | ErrorCode::AuthFailed
            | ErrorCode::NotReadOnly
            | ErrorCode::EphemeralOnLocalSession
            | ErrorCode::NoWatcher
            | ErrorCode::RequestTimeout
            | ErrorCode::ReconfigDisabled
            | ErrorCode::SessionClosedRequireSaslAuth => Self::Internal(code),
        }
    }
}

impl From<OpError> for Error {
    fn from(error: OpError) -> Self {
        crate::convert::code(error).into()
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent => Self::NotServing,
            CallError::Lost => Self::Lost,
            CallError::Refused(code) => code.into(),
        }
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NotServing => Self::NotServing,
            ConnectError::Expired => Self::Expired,
            ConnectError::Lost => Self::Lost,
        }
    }
}

/// Of a read: nothing can have been done.
impl From<Closed> for Error {
    fn from(Closed: Closed) -> Self {
        Self::NotServing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_proto::status::{NOT_DONE, OUTCOME_UNKNOWN};
    use tonic_types::StatusExt as _;

    #[test]
    fn each_error_has_its_code_and_says_whether_it_may_have_been_done() {
        let not_done = Some(NOT_DONE);
        for (error, code, reason) in [
            (
                Error::Invalid {
                    what: "a",
                    expected: "b",
                },
                Code::InvalidArgument,
                None,
            ),
            (Error::OutOfOrder, Code::InvalidArgument, None),
            (Error::OtherMode, Code::InvalidArgument, None),
            (Error::InvalidAcl, Code::InvalidArgument, None),
            (Error::BadArguments, Code::InvalidArgument, None),
            (Error::WrongSecret, Code::PermissionDenied, None),
            (Error::NoAuth, Code::PermissionDenied, None),
            (Error::NotHere, Code::FailedPrecondition, None),
            (Error::Expired, Code::FailedPrecondition, None),
            (Error::NotLeader, Code::FailedPrecondition, None),
            (Error::NotRegistered, Code::NotFound, None),
            (Error::Registered, Code::AlreadyExists, None),
            (Error::NoInstance, Code::FailedPrecondition, None),
            (
                Error::TooManyInstances { limit: 1 },
                Code::ResourceExhausted,
                None,
            ),
            (Error::BadVersion, Code::FailedPrecondition, None),
            (Error::NotEmpty, Code::FailedPrecondition, None),
            (
                Error::NoChildrenForEphemerals,
                Code::FailedPrecondition,
                None,
            ),
            (Error::Moved, Code::Aborted, None),
            (Error::Removed, Code::Aborted, None),
            (Error::NoNode, Code::NotFound, None),
            (Error::NodeExists, Code::AlreadyExists, None),
            (Error::QuotaExceeded, Code::ResourceExhausted, None),
            (
                Error::TooManySessions { limit: 1 },
                Code::ResourceExhausted,
                not_done,
            ),
            (Error::Throttled, Code::ResourceExhausted, not_done),
            (Error::NotServing, Code::Unavailable, not_done),
            (Error::Stopping, Code::Unavailable, not_done),
            (Error::DeadlineExceeded, Code::DeadlineExceeded, not_done),
            (Error::Lost, Code::Unavailable, Some(OUTCOME_UNKNOWN)),
            (Error::Internal(ErrorCode::ApiError), Code::Internal, None),
        ] {
            let status = Status::from(error.clone());
            assert_eq!(status.code(), code, "{error:?}");
            assert_eq!(status.message(), error.to_string());
            let info = status.get_details_error_info();
            assert_eq!(info.as_ref().map(|info| &*info.reason), reason, "{error:?}");
        }
    }

    #[test]
    fn what_was_not_sent_was_not_done_and_what_was_lost_is_unknown() {
        assert_eq!(Error::from(CallError::NotSent).advice(), Advice::Retry);
        assert_eq!(Error::from(CallError::Lost).advice(), Advice::Unknown);
        let refused = CallError::Refused(ErrorCode::BadVersion);
        assert_eq!(Error::from(refused), Error::BadVersion);
        assert_eq!(Error::from(OpError::NoNode), Error::NoNode);
    }
}
