//! Clients of the etcd API as tests use them.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_client::{Client, ConnectOptions, Error};

/// How long one call may take, unless a test says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// A client of the given endpoints, with a timeout of 40 s a call.
///
/// # Errors
/// The endpoint's text is no address.
pub async fn connect(endpoints: &[String]) -> Result<Client> {
    connect_with(endpoints, ConnectOptions::new().with_timeout(CALL_TIMEOUT)).await
}

/// A client of the given endpoints with options of one's own.
///
/// # Errors
/// The endpoint's text is no address.
pub async fn connect_with(endpoints: &[String], options: ConnectOptions) -> Result<Client> {
    let options = options.with_connect_timeout(Duration::from_secs(2));
    Client::connect(endpoints, Some(options))
        .await
        .with_context(|| format!("connect to {endpoints:?}"))
}

/// What a server said when it refused a call: the gRPC code's name and the exact message.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused {
    /// For instance `OutOfRange`.
    pub code: String,
    /// For instance `etcdserver: mvcc: required revision has been compacted`.
    pub message: String,
}

impl Refused {
    /// The refusal that a test expects.
    #[must_use]
    pub fn with(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }

    /// The refusal inside an error of the client crate; `None` for errors of the client itself.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        if let Error::GRpcStatus(status) = error {
            Some(Self::with(
                &format!("{:?}", status.code()),
                status.message(),
            ))
        } else {
            None
        }
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.code, self.message)
    }
}

/// The refusal that a call ended with.
///
/// # Errors
/// The call succeeded, or failed before a server answered.
pub fn refused<T: fmt::Debug>(answer: Result<T, Error>) -> Result<Refused> {
    match answer {
        Ok(value) => bail!("the call should have been refused, but answered {value:?}"),
        Err(error) => Refused::of(&error).with_context(|| format!("not a gRPC status: {error}")),
    }
}
