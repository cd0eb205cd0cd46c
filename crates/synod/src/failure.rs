//! The message and the exit code of a failed command.

use std::{error::Error as _, fmt, io::Write as _, process::ExitCode};

use synod_proto::status::{ERROR_DOMAIN, NOT_DONE};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The command needs something that does not exist. Says what.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// A write that was sent and not answered; says why.
#[derive(Debug)]
pub(crate) struct UnknownOutcome(pub(crate) String);

impl fmt::Display for UnknownOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the outcome of this write is unknown: {}", self.0)
    }
}

impl std::error::Error for UnknownOutcome {}

/// Marks a write's error as "outcome unknown" if the write may have been done.
pub(crate) fn of_write(error: etcd_client::Error) -> anyhow::Error {
    if may_have_happened(&error) {
        UnknownOutcome(describe(&error)).into()
    } else {
        error.into()
    }
}

fn may_have_happened(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return false;
    };
    // Synod's servers say so in the details; the code alone doesn't.
    let info = status.get_details_error_info();
    if let Some(info) = info.filter(|info| info.domain == ERROR_DOMAIN) {
        return info.reason != NOT_DONE;
    }
    let may_be_lost = matches!(
        status.code(),
        Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Unavailable
    );
    // The connection broke, or the answer is too large to be read. If the message has etcd's
    // prefix, the server refused the request.
    let may_be_unread = matches!(status.code(), Code::Internal | Code::OutOfRange)
        && !status.message().starts_with("etcdserver:");
    (may_be_lost || may_be_unread) && !was_never_sent(status)
}

/// Whether no connection could be made.
fn was_never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(cause) = source {
        if cause.is::<tonic::ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Prints the error with advice, and returns the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let code = if error.is::<Missing>() {
        4
    } else if error.is::<UnknownOutcome>() {
        3
    } else {
        1
    };
    let text = match error.downcast_ref::<etcd_client::Error>() {
        Some(etcd) => describe(etcd),
        None => format!("{error:#}"),
    };
    let mut stderr = std::io::stderr().lock();
    // If standard error is closed, the error can't be reported.
    let _ = writeln!(stderr, "synod: {text}");
    if let Some(hint) = hint(&text, code) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    ExitCode::from(code)
}

/// A status with its causes, or another error's text.
pub(crate) fn describe(error: &etcd_client::Error) -> String {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return error.to_string();
    };
    let mut text = if status.message().is_empty() {
        status.code().description().to_owned()
    } else {
        status.message().to_owned()
    };
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn hint(text: &str, code: u8) -> Option<&'static str> {
    if code == 3 {
        return Some("read it to see whether the write took effect before repeating it");
    }
    let hints = [
        (
            "coordination service at",
            "start synod-coordination, or name its pods with --coordination",
        ),
        (
            "no ZooKeeper server",
            "start one with `synod dev`, or name servers with --server",
        ),
        (
            "Connection refused",
            "start a cluster with `synod dev`, or name one with --endpoints",
        ),
        (
            "tcp connect error",
            "start a cluster with `synod dev`, or name one with --endpoints",
        ),
        (
            "no leader",
            "start members until a majority runs; `synod status` shows which ones do",
        ),
        (
            "has been compacted",
            "ask for a newer revision; `synod status` shows the current one",
        ),
        (
            "database space exceeded",
            "delete keys or compact; or raise --quota-backend-bytes",
        ),
        (
            "Address already in use",
            "stop the other process or choose other ports",
        ),
        ("eadline", "raise --timeout, or look at `synod status`"),
    ];
    hints
        .iter()
        .find(|(pattern, _)| text.contains(pattern))
        .map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use synod_proto::status::OUTCOME_UNKNOWN;
    use tonic_types::ErrorDetails;

    use super::*;

    fn is_unknown(status: Status) -> bool {
        of_write(etcd_client::Error::GRpcStatus(status)).is::<UnknownOutcome>()
    }

    #[test]
    fn a_synod_server_says_whether_a_write_may_have_been_done() {
        let status = |reason: &str, domain: &str| {
            let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
            Status::with_error_details(Code::Unavailable, "etcdserver: server stopped", details)
        };
        assert!(is_unknown(status(OUTCOME_UNKNOWN, ERROR_DOMAIN)));
        assert!(!is_unknown(status(NOT_DONE, ERROR_DOMAIN)));
        assert!(is_unknown(status(NOT_DONE, "elsewhere")));
    }

    #[test]
    fn without_details_the_outcome_of_a_sent_write_is_unknown() {
        assert!(is_unknown(Status::unavailable("connection reset")));
        // The text makes no difference.
        assert!(is_unknown(Status::unavailable("tcp connect error")));
        assert!(!is_unknown(Status::invalid_argument("key is not provided")));
        // The answer was larger than the client accepts: the write was done.
        assert!(is_unknown(Status::out_of_range(
            "decoded message length too large"
        )));
        assert!(is_unknown(Status::internal("protocol error")));
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert!(!is_unknown(Status::out_of_range(compacted)));
    }

    #[tokio::test]
    async fn a_write_on_a_refused_connection_was_certainly_not_done() {
        // Bound and closed again, so that no process listens there.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let mut client = etcd_client::Client::connect([address.to_string()], None)
            .await
            .unwrap();
        let error = client.put("k", "v", None).await.unwrap_err();
        assert!(!of_write(error).is::<UnknownOutcome>());
    }
}
