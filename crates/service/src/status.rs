//! The gRPC status of a failed call, and what it tells the caller to do.

use std::collections::HashMap;

use synod_proto::status::{ERROR_DOMAIN, NOT_DONE, OUTCOME_UNKNOWN};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Certainly not done: repeat the request later, or elsewhere.
    Retry,
    /// The outcome is unknown: check it before repeating a request that is not idempotent.
    Unknown,
    /// The current state does not allow the request.
    Conflict,
    /// The request is wrong.
    Invalid,
    /// Data is damaged: an operator must act.
    Corrupt,
    /// A defect or a broken disk.
    Internal,
}

/// The status of a failed call. Codes alone don't tell whether the request may have taken effect:
/// for [`Advice::Retry`] and [`Advice::Unknown`] a `google.rpc.ErrorInfo` in the details says so.
#[must_use]
pub fn status(code: Code, message: String, advice: Advice) -> Status {
    let reason = match advice {
        Advice::Retry => NOT_DONE,
        Advice::Unknown => OUTCOME_UNKNOWN,
        Advice::Conflict | Advice::Invalid | Advice::Corrupt | Advice::Internal => {
            return Status::new(code, message);
        }
    };
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_details_say_whether_it_may_have_been_done() {
        for (advice, reason) in [
            (Advice::Retry, Some(NOT_DONE)),
            (Advice::Unknown, Some(OUTCOME_UNKNOWN)),
            (Advice::Conflict, None),
            (Advice::Invalid, None),
            (Advice::Corrupt, None),
            (Advice::Internal, None),
        ] {
            let status = status(Code::Unavailable, "no".to_owned(), advice);
            assert_eq!((status.code(), status.message()), (Code::Unavailable, "no"));
            let info = status.get_details_error_info();
            assert_eq!(info.as_ref().map(|info| &*info.reason), reason);
            assert!(info.is_none_or(|info| info.domain == ERROR_DOMAIN));
        }
    }
}
