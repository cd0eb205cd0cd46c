//! Why a call to the endpoint failed.

use etcd_client::Error;
use tonic::Code;

/// Why a call to the endpoint failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    /// Nothing was done. The same call fails again until someone changes the endpoint.
    #[error("the etcd endpoint refused to {what}: {reason}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The endpoint's words.
        reason: String,
    },
    /// Nothing was done: the request has more bytes than the endpoint takes.
    #[error("the etcd endpoint takes no request as large as that to {what}: {reason}")]
    TooLarge {
        /// What was asked.
        what: &'static str,
        /// The endpoint's words.
        reason: String,
    },
    /// No answer, or an answer that does not say whether the call had an effect.
    #[error(
        "could not {what}, or does not know whether it did: {reason}; is the etcd endpoint up?"
    )]
    Unknown {
        /// What was asked.
        what: &'static str,
        /// What happened.
        reason: String,
    },
    /// Keys below the root have values that no pod writes.
    #[error("could not {what}: {reason}; only pods of one service may write below its root")]
    Corrupt {
        /// What was asked.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl EndpointError {
    pub(crate) fn of(what: &'static str, error: &Error) -> Self {
        let reason = words(error);
        if is_too_large(error) {
            Self::TooLarge { what, reason }
        } else if is_refusal(error) {
            Self::Refused { what, reason }
        } else {
            Self::Unknown { what, reason }
        }
    }

    pub(crate) fn refused(what: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Refused { what, reason }
    }

    pub(crate) fn unknown(what: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Unknown { what, reason }
    }

    pub(crate) fn corrupt(what: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Corrupt { what, reason }
    }
}

/// What the endpoint said; for a connection that failed, the cause.
fn words(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else {
        return error.to_string();
    };
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// etcd's own words, those of gRPC for Go, and those of tonic.
fn is_too_large(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else {
        return false;
    };
    let words = [
        (Code::InvalidArgument, "request is too large"),
        (Code::ResourceExhausted, "message larger than max"),
        (Code::OutOfRange, "message length too large"),
    ];
    let mut words = words.into_iter();
    words.any(|(code, words)| status.code() == code && status.message().contains(words))
}

fn is_refusal(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else {
        return false;
    };
    match status.code() {
        // etcd checks requests, users and permissions before it changes anything.
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => true,
        // etcd executes the write that exceeds its quota, and then answers with an error. A client
        // also reports these codes if the answer is too large.
        Code::ResourceExhausted | Code::OutOfRange => false,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    #[test]
    fn only_what_was_checked_before_any_change_is_a_refusal() {
        let refused = [
            Code::InvalidArgument,
            Code::PermissionDenied,
            Code::Unauthenticated,
            Code::Unimplemented,
        ];
        for number in 0..=16 {
            let code = Code::from_i32(number);
            let error = Error::GRpcStatus(Status::new(code, "words"));
            let expected = refused.contains(&code);
            assert_eq!(is_refusal(&error), expected, "{code:?}");
            let error = EndpointError::of("append", &error);
            assert!(error.to_string().contains("words"));
            assert_eq!(matches!(error, EndpointError::Refused { .. }), expected);
        }
        for (code, words) in [
            (Code::InvalidArgument, "etcdserver: request is too large"),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (5 vs. 4)",
            ),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes",
            ),
        ] {
            let error = Error::GRpcStatus(Status::new(code, words));
            let error = EndpointError::of("append", &error);
            assert!(matches!(error, EndpointError::TooLarge { .. }), "{error}");
        }
        let full = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        let full = EndpointError::of("append", &Error::GRpcStatus(full));
        assert!(matches!(full, EndpointError::Unknown { .. }), "{full}");
        let io = Error::IoError(std::io::Error::other("cut"));
        assert!(!is_refusal(&io));
    }
}
