//! What a failed command prints, and the exit code it ends with.

use std::{fmt, io::Write as _, process::ExitCode};

use tonic::Code;

/// The key that a command needs does not exist.
#[derive(Debug)]
pub(crate) struct KeyMissing(pub(crate) String);

impl fmt::Display for KeyMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key {} does not exist", self.0)
    }
}

impl std::error::Error for KeyMissing {}

/// A write whose request was sent and never answered.
#[derive(Debug)]
pub(crate) struct UnknownOutcome(pub(crate) etcd_client::Error);

impl fmt::Display for UnknownOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the outcome of this write is unknown: {}",
            describe(&self.0)
        )
    }
}

impl std::error::Error for UnknownOutcome {}

/// Marks the error of a write as "outcome unknown" where the request may have reached the cluster.
pub(crate) fn of_write(error: etcd_client::Error) -> anyhow::Error {
    if may_have_happened(&error) {
        UnknownOutcome(error).into()
    } else {
        error.into()
    }
}

fn may_have_happened(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return false;
    };
    let is_lost = matches!(
        status.code(),
        Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    );
    // A refused connection certainly carried nothing; a lost one may have.
    let text = status.message();
    let was_refused = text.contains("tcp connect error") || text.contains("no leader");
    is_lost || (status.code() == Code::Unavailable && !was_refused)
}

/// Prints the error with what to do next, and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let code = if error.is::<KeyMissing>() {
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
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(stderr, "synod: {text}");
    if let Some(hint) = hint(&text, code) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    ExitCode::from(code)
}

fn describe(error: &etcd_client::Error) -> String {
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
        return Some("read the key to see whether the write took effect before repeating it");
    }
    let hints = [
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
            "a majority of the members must be up: look at `synod status`",
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
    use super::*;
    use tonic::Status;

    #[test]
    fn a_lost_answer_to_a_write_is_unknown_and_a_refused_connection_is_not() {
        let lost = etcd_client::Error::GRpcStatus(Status::unavailable("connection reset"));
        assert!(of_write(lost).is::<UnknownOutcome>());
        let refused = etcd_client::Error::GRpcStatus(Status::unavailable("tcp connect error"));
        assert!(!of_write(refused).is::<UnknownOutcome>());
        let invalid =
            etcd_client::Error::GRpcStatus(Status::invalid_argument("key is not provided"));
        assert!(!of_write(invalid).is::<UnknownOutcome>());
    }
}
