//! Every error of a request, and its gRPC code.
//!
//! Go clients compare messages, so each text is exactly etcd's. [`Error::advice`] says what a
//! caller can do; it keeps "certainly not done" and "outcome unknown" apart.

use synod_auth::AuthError;
use synod_consensus_core::{ChangeError, Rejected};
use synod_replica::{ProposeError, ReadError};
use synod_service::{Advice, BudgetError, MalformedTimeout, ScanError, status};
use tonic::{Code, Status};

use crate::version::USERS;

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    // The request is wrong.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// Not in etcd, which has only protobuf's limit.
    #[error("etcdserver: transactions are nested too deep, at most {max_depth} levels are allowed")]
    TxnTooDeep { max_depth: usize },
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    #[error("etcdserver: given member URLs are invalid")]
    MemberBadUrls,
    #[error("etcdserver: wrong downgrade target version format")]
    WrongDowngradeVersion,
    /// A command that members can't decode. It has no effect.
    #[error("etcdserver: request can't be decoded")]
    Undecodable,
    /// A number outside its enumeration. Not in etcd.
    #[error("etcdserver: unknown {what}")]
    UnknownEnum { what: &'static str },
    /// Not in etcd's list, since gRPC for Go refuses such calls itself.
    #[error("etcdserver: {0}")]
    MalformedTimeout(#[from] MalformedTimeout),
    /// A downgrade action outside its enumeration.
    #[error("etcdserver: unknown method")]
    UnknownMethod,

    // The state of the keys does not allow it.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,

    // Locks and elections. The texts are those of etcd's client library.
    #[error("mutex: session is expired")]
    LockSessionExpired,
    /// Not in etcd, which reports such a campaign as won.
    #[error("election: session is expired")]
    ElectionSessionExpired,
    #[error("election: not leader")]
    NotElected,
    #[error("election: no leader")]
    NoElectedLeader,
    #[error("\"leader\" field must be provided")]
    MissingLeaderKey,
    /// The caller's deadline has passed. The call's effects are undone if possible.
    #[error("context deadline exceeded")]
    DeadlineExceeded,

    // The membership does not allow it.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    #[error("etcdserver: member not found")]
    MemberNotFound,
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    #[error("etcdserver: rpc not supported for learner")]
    LearnerUnsupported,

    // What users and roles allow.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The cluster's feature level does not allow users yet.
    #[error(
        "etcdserver: users and roles need feature level {USERS}, and the cluster has level {level}: upgrade all members first"
    )]
    UsersUnsupported {
        /// The cluster's level.
        level: u32,
    },

    // The state of the cluster does not allow it.
    #[error("etcdserver: no leader")]
    NoLeader,
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The leadership changed before the proposal was appended: certainly not done.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// Not in etcd. The response never fits into the budget of responses.
    #[error(
        "etcdserver: the response of {bytes} bytes is larger than {largest}: read it in pages (limit) or with RangeStream"
    )]
    ResponseTooLarge { bytes: usize, largest: usize },
    /// Not in etcd. The budget of responses had no room in time.
    #[error(
        "etcdserver: too many large responses are in progress: try again, or read in pages (limit) or with RangeStream"
    )]
    ResponsesBusy,
    /// Not in etcd. All members limit the response of a command alike.
    #[error(
        "etcdserver: the response of the write is larger than {largest} bytes: return fewer pairs (prev_kv, ranges)"
    )]
    ReplyTooLarge { largest: usize },
    /// Not in etcd. Members hold the changes of a transaction in memory.
    #[error(
        "etcdserver: the request deletes more than {largest} bytes at once: delete fewer keys, or use a separate DeleteRange request without prev_kv"
    )]
    DeleteTooLarge { largest: usize },
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The member had stopped before the request came, or the request only reads: certainly not
    /// done. The text is etcd's for both cases.
    #[error("etcdserver: server stopped")]
    NotRunning,
    /// The client of a backup stopped reading.
    #[error("etcdserver: the backup was ended because its client stopped reading: start it again")]
    BackupStalled,
    /// The outcome is unknown: the request may have taken effect, or still may.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// A read timed out. It has no effect.
    #[error("etcdserver: request timed out, waiting for the applied index took too long")]
    TimeoutWaitApplied,
    #[error("etcdserver: request timed out, waiting for leader transfer took too long")]
    TimeoutLeaderTransfer,
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    #[error("etcdserver: no inflight downgrade job")]
    NoInflightDowngrade,
    #[error("etcdserver: invalid downgrade target version")]
    InvalidDowngradeTarget,

    // It is not implemented, or broke.
    #[error("etcdserver: {0} is not implemented")]
    Unimplemented(&'static str),
    #[error("RangeStream does not support {0}")]
    RangeStreamUnsupported(&'static str),
    /// A failure of the server, which a client can't fix.
    #[error("etcdserver: internal error: {0}")]
    Internal(String),
}

impl Error {
    /// The gRPC code, as in etcd.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::TxnTooDeep { .. }
            | Self::Undecodable
            | Self::DuplicateKey
            | Self::InvalidSortOption
            | Self::RequestTooLarge
            | Self::MemberBadUrls
            | Self::WrongDowngradeVersion
            | Self::InvalidDowngradeTarget
            | Self::UnknownEnum { .. }
            | Self::MalformedTimeout(_) => Code::InvalidArgument,
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::NoSpace
            | Self::TooManyRequests
            | Self::ResponseTooLarge { .. }
            | Self::ResponsesBusy
            | Self::ReplyTooLarge { .. }
            | Self::DeleteTooLarge { .. } => Code::ResourceExhausted,
            Self::LeaseNotFound | Self::MemberNotFound => Code::NotFound,
            Self::LeaseExists
            | Self::MemberExists
            | Self::PeerUrlExists
            | Self::NotEnoughStarted
            | Self::NotLearner
            | Self::LearnerNotReady
            | Self::TooManyLearners
            | Self::BadTransferee
            | Self::LearnerUnsupported
            | Self::NotLeader
            | Self::NoInflightDowngrade
            | Self::UsersUnsupported { .. } => Code::FailedPrecondition,
            Self::Unhealthy
            | Self::NoLeader
            | Self::LeaderChanged
            | Self::Stopped
            | Self::NotRunning
            | Self::Timeout
            | Self::TimeoutWaitApplied => Code::Unavailable,
            Self::Auth(error) => error.code(),
            Self::Corrupt => Code::DataLoss,
            Self::Unimplemented(_) | Self::RangeStreamUnsupported(_) => Code::Unimplemented,
            Self::BackupStalled | Self::DeadlineExceeded => Code::DeadlineExceeded,
            // As in etcd, which has no code for these.
            Self::LockSessionExpired
            | Self::ElectionSessionExpired
            | Self::NotElected
            | Self::NoElectedLeader
            | Self::MissingLeaderKey
            | Self::TimeoutLeaderTransfer
            | Self::UnknownMethod
            | Self::Internal(_) => Code::Unknown,
        }
    }

    /// The error of a request that only reads. It has no effect, so its outcome is never unknown.
    #[must_use]
    pub(crate) fn of_read(self) -> Self {
        if self == Self::Stopped {
            Self::NotRunning
        } else if self.advice() == Advice::Unknown {
            Self::TimeoutWaitApplied
        } else {
            self
        }
    }

    /// What a caller can do.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match self {
            Self::NoLeader
            | Self::NotLeader
            | Self::LeaderChanged
            | Self::NotRunning
            | Self::TooManyRequests
            | Self::ResponsesBusy
            | Self::BackupStalled
            | Self::TimeoutWaitApplied
            | Self::Unhealthy
            | Self::LearnerNotReady
            | Self::LearnerUnsupported
            | Self::NotEnoughStarted => Advice::Retry,
            // A transfer may complete after its timeout.
            Self::Timeout
            | Self::Stopped
            | Self::TimeoutLeaderTransfer
            | Self::DeadlineExceeded => Advice::Unknown,
            Self::KeyNotFound
            | Self::Compacted
            | Self::FutureRevision
            | Self::NoSpace
            | Self::LeaseNotFound
            | Self::LeaseExists
            | Self::LockSessionExpired
            | Self::ElectionSessionExpired
            | Self::NotElected
            | Self::NoElectedLeader
            | Self::MemberExists
            | Self::PeerUrlExists
            | Self::MemberNotFound
            | Self::NotLearner
            | Self::TooManyLearners
            | Self::BadTransferee
            | Self::NoInflightDowngrade
            | Self::UsersUnsupported { .. } => Advice::Conflict,
            Self::EmptyKey
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::TxnTooDeep { .. }
            | Self::Undecodable
            | Self::DuplicateKey
            | Self::InvalidSortOption
            | Self::RequestTooLarge
            | Self::MemberBadUrls
            | Self::WrongDowngradeVersion
            | Self::InvalidDowngradeTarget
            | Self::ResponseTooLarge { .. }
            | Self::ReplyTooLarge { .. }
            | Self::DeleteTooLarge { .. }
            | Self::LeaseTtlTooLarge
            | Self::UnknownEnum { .. }
            | Self::MalformedTimeout(_)
            | Self::MissingLeaderKey
            | Self::UnknownMethod
            | Self::Unimplemented(_)
            | Self::RangeStreamUnsupported(_) => Advice::Invalid,
            Self::Auth(error) => error.advice(),
            Self::Corrupt => Advice::Corrupt,
            Self::Internal(_) => Advice::Internal,
        }
    }
}

impl From<Error> for Status {
    /// etcd's code and text, and details that follow from [`Error::advice`].
    fn from(error: Error) -> Self {
        status(error.code(), error.to_string(), error.advice())
    }
}

impl From<BudgetError> for Error {
    fn from(error: BudgetError) -> Self {
        match error {
            BudgetError::TooLarge { bytes, largest } => Self::ResponseTooLarge { bytes, largest },
            BudgetError::Busy => Self::ResponsesBusy,
        }
    }
}

impl From<ScanError> for Error {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Busy => Self::TooManyRequests,
            ScanError::Failed(why) => Self::Internal(why),
        }
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Rejected(rejected) => rejected.into(),
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::TooBusy => Self::TooManyRequests,
            ProposeError::TooLarge { .. } => Self::RequestTooLarge,
            ProposeError::Timeout => Self::Timeout,
            ProposeError::Stopped => Self::Stopped,
            ProposeError::NotRunning => Self::NotRunning,
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Rejected(rejected) => rejected.into(),
            ReadError::NoLeader => Self::NoLeader,
            ReadError::TooBusy => Self::TooManyRequests,
            ReadError::Timeout => Self::TimeoutWaitApplied,
            ReadError::Stopped => Self::NotRunning,
            other => Self::Internal(other.to_string()),
        }
    }
}

/// A proposal that the core rejects is certainly not done.
impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::NoLeader => Self::NoLeader,
            Rejected::NotLeader { .. } | Rejected::LeaderNotReady | Rejected::Transferring => {
                Self::LeaderChanged
            }
            Rejected::Overloaded | Rejected::ConfigChangeInFlight => Self::TooManyRequests,
            Rejected::TooLarge => Self::RequestTooLarge,
            Rejected::LearnerNotReady => Self::LearnerNotReady,
            Rejected::UnhealthyQuorum => Self::Unhealthy,
            Rejected::InvalidChange(error) => match error {
                ChangeError::AlreadyMember(_) | ChangeError::Twice(_) => Self::MemberExists,
                ChangeError::NotMember(_) | ChangeError::NoNode | ChangeError::NotVoter(_) => {
                    Self::MemberNotFound
                }
                ChangeError::NotLearner(_) => Self::NotLearner,
                ChangeError::NoVoters => Self::NotEnoughStarted,
                ChangeError::Empty => Self::Internal(error.to_string()),
            },
            Rejected::InvalidTransfer { .. } => Self::BadTransferee,
            // Only for reads: a read whose lease expired falls back to a round of heartbeats.
            Rejected::LeaseExpired | Rejected::TimedOut => Self::TimeoutWaitApplied,
            Rejected::Removed | Rejected::Failed => Self::NotRunning,
            Rejected::CannotCampaign | Rejected::InvalidMessage => {
                Self::Internal(rejected.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_proto::status::{ERROR_DOMAIN, NOT_DONE, OUTCOME_UNKNOWN};
    use tonic_types::StatusExt as _;

    use super::*;

    /// One error a line, with its code and text: those of etcd 3.7's `rpctypes`, and ours.
    macro_rules! assert_table {
        ($($error:ident $(($($value:expr),*))? $({$($field:ident: $is:expr),*})? => $code:ident $text:literal;)*) => {
            $({
                let error = Error::$error $(($($value),*))? $({$($field: $is),*})?;
                let status = Status::from(error.clone());
                assert_eq!((status.code(), status.message()), (Code::$code, $text), "{error:?}");
            })*
        };
    }

    #[test]
    fn requests_that_are_wrong() {
        assert_table! {
            EmptyKey => InvalidArgument "etcdserver: key is not provided";
            KeyNotFound => InvalidArgument "etcdserver: key not found";
            ValueProvided => InvalidArgument "etcdserver: value is provided";
            LeaseProvided => InvalidArgument "etcdserver: lease is provided";
            TooManyOps => InvalidArgument "etcdserver: too many operations in txn request";
            TxnTooDeep { max_depth: 16 } => InvalidArgument "etcdserver: transactions are nested too deep, at most 16 levels are allowed";
            Undecodable => InvalidArgument "etcdserver: request can't be decoded";
            DuplicateKey => InvalidArgument "etcdserver: duplicate key given in txn request";
            InvalidSortOption => InvalidArgument "etcdserver: invalid sort option";
            RequestTooLarge => InvalidArgument "etcdserver: request is too large";
            MemberBadUrls => InvalidArgument "etcdserver: given member URLs are invalid";
            WrongDowngradeVersion => InvalidArgument "etcdserver: wrong downgrade target version format";
            InvalidDowngradeTarget => InvalidArgument "etcdserver: invalid downgrade target version";
            UnknownEnum { what: "thing" } => InvalidArgument "etcdserver: unknown thing";
            UnknownMethod => Unknown "etcdserver: unknown method";
        }
    }

    #[test]
    fn what_the_keyspace_says() {
        assert_table! {
            Compacted => OutOfRange "etcdserver: mvcc: required revision has been compacted";
            FutureRevision => OutOfRange "etcdserver: mvcc: required revision is a future revision";
            NoSpace => ResourceExhausted "etcdserver: mvcc: database space exceeded";
            LeaseNotFound => NotFound "etcdserver: requested lease not found";
            LeaseExists => FailedPrecondition "etcdserver: lease already exists";
            LeaseTtlTooLarge => OutOfRange "etcdserver: too large lease TTL";
        }
    }

    #[test]
    fn what_locks_and_elections_say() {
        assert_table! {
            LockSessionExpired => Unknown "mutex: session is expired";
            ElectionSessionExpired => Unknown "election: session is expired";
            NotElected => Unknown "election: not leader";
            NoElectedLeader => Unknown "election: no leader";
            MissingLeaderKey => Unknown "\"leader\" field must be provided";
            DeadlineExceeded => DeadlineExceeded "context deadline exceeded";
        }
    }

    #[test]
    fn what_the_membership_says() {
        assert_table! {
            MemberExists => FailedPrecondition "etcdserver: member ID already exist";
            PeerUrlExists => FailedPrecondition "etcdserver: Peer URLs already exists";
            NotEnoughStarted => FailedPrecondition "etcdserver: re-configuration failed due to not enough started members";
            MemberNotFound => NotFound "etcdserver: member not found";
            NotLearner => FailedPrecondition "etcdserver: can only promote a learner member";
            LearnerNotReady => FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
            TooManyLearners => FailedPrecondition "etcdserver: too many learner members in cluster";
            Unhealthy => Unavailable "etcdserver: unhealthy cluster";
            BadTransferee => FailedPrecondition "etcdserver: bad leader transferee";
            LearnerUnsupported => FailedPrecondition "etcdserver: rpc not supported for learner";
        }
    }

    #[test]
    fn what_users_and_roles_say() {
        assert_table! {
            Auth(AuthError::OldRevision) => InvalidArgument "etcdserver: revision of auth store is old";
            Auth(AuthError::PermissionDenied) => PermissionDenied "etcdserver: permission denied";
            UsersUnsupported { level: 2 } => FailedPrecondition "etcdserver: users and roles need feature level 3, and the cluster has level 2: upgrade all members first";
        }
        assert_eq!(Error::from(AuthError::OldRevision).advice(), Advice::Retry);
    }

    #[test]
    fn what_the_cluster_says() {
        assert_table! {
            NoLeader => Unavailable "etcdserver: no leader";
            NotLeader => FailedPrecondition "etcdserver: not leader";
            LeaderChanged => Unavailable "etcdserver: leader changed";
            TooManyRequests => ResourceExhausted "etcdserver: too many requests";
            ResponseTooLarge { bytes: 9, largest: 8 } => ResourceExhausted "etcdserver: the response of 9 bytes is larger than 8: read it in pages (limit) or with RangeStream";
            ResponsesBusy => ResourceExhausted "etcdserver: too many large responses are in progress: try again, or read in pages (limit) or with RangeStream";
            ReplyTooLarge { largest: 8 } => ResourceExhausted "etcdserver: the response of the write is larger than 8 bytes: return fewer pairs (prev_kv, ranges)";
            DeleteTooLarge { largest: 8 } => ResourceExhausted "etcdserver: the request deletes more than 8 bytes at once: delete fewer keys, or use a separate DeleteRange request without prev_kv";
            Stopped => Unavailable "etcdserver: server stopped";
            NotRunning => Unavailable "etcdserver: server stopped";
            BackupStalled => DeadlineExceeded "etcdserver: the backup was ended because its client stopped reading: start it again";
            Timeout => Unavailable "etcdserver: request timed out";
            TimeoutWaitApplied => Unavailable "etcdserver: request timed out, waiting for the applied index took too long";
            TimeoutLeaderTransfer => Unknown "etcdserver: request timed out, waiting for leader transfer took too long";
            Corrupt => DataLoss "etcdserver: corrupt cluster";
            NoInflightDowngrade => FailedPrecondition "etcdserver: no inflight downgrade job";
            Internal("x".into()) => Unknown "etcdserver: internal error: x";
            Unimplemented("x") => Unimplemented "etcdserver: x is not implemented";
            RangeStreamUnsupported("custom sort orders") => Unimplemented "RangeStream does not support custom sort orders";
        }
    }

    #[test]
    fn certain_and_unknown_outcomes_stay_apart() {
        for (error, advice) in [
            (ProposeError::NoLeader, Advice::Retry),
            (ProposeError::TooBusy, Advice::Retry),
            (ProposeError::Rejected(Rejected::Overloaded), Advice::Retry),
            (
                ProposeError::Rejected(Rejected::Transferring),
                Advice::Retry,
            ),
            (ProposeError::Timeout, Advice::Unknown),
            (ProposeError::Stopped, Advice::Unknown),
            (ProposeError::NotRunning, Advice::Retry),
            (
                ProposeError::TooLarge { bytes: 2, limit: 1 },
                Advice::Invalid,
            ),
        ] {
            assert_eq!(Error::from(error.clone()).advice(), advice, "{error:?}");
        }
    }

    #[test]
    fn a_read_or_a_refusal_is_never_unknown() {
        let refusals = [
            Rejected::NoLeader,
            Rejected::LeaderNotReady,
            Rejected::Transferring,
            Rejected::Overloaded,
            Rejected::LeaseExpired,
            Rejected::TimedOut,
            Rejected::Removed,
            Rejected::Failed,
        ];
        let reads = refusals.iter().copied().map(ReadError::Rejected).chain([
            ReadError::NoLeader,
            ReadError::TooBusy,
            ReadError::Timeout,
            ReadError::Stopped,
        ]);
        for error in reads {
            assert_eq!(
                Error::from(error.clone()).advice(),
                Advice::Retry,
                "{error:?}"
            );
        }
        for refusal in refusals {
            let error = ProposeError::Rejected(refusal);
            assert_eq!(Error::from(error).advice(), Advice::Retry, "{refusal:?}");
        }
        for error in [Error::Timeout, Error::Stopped, Error::TimeoutLeaderTransfer] {
            assert_eq!(error.clone().of_read().advice(), Advice::Retry, "{error:?}");
        }
        assert_eq!(Error::NoLeader.of_read(), Error::NoLeader);
    }

    #[test]
    fn a_status_says_whether_the_request_may_have_been_done() {
        for (error, reason) in [
            (Error::NoLeader, Some(NOT_DONE)),
            (Error::NotRunning, Some(NOT_DONE)),
            (Error::TooManyRequests, Some(NOT_DONE)),
            (Error::Stopped, Some(OUTCOME_UNKNOWN)),
            (Error::Timeout, Some(OUTCOME_UNKNOWN)),
            (Error::TimeoutLeaderTransfer, Some(OUTCOME_UNKNOWN)),
            (Error::EmptyKey, None),
        ] {
            let info = Status::from(error.clone()).get_details_error_info();
            assert_eq!(info.as_ref().map(|info| &*info.reason), reason, "{error:?}");
            assert!(info.is_none_or(|info| info.domain == ERROR_DOMAIN));
        }
    }
}
