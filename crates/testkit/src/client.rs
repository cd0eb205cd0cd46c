//! Clients of the etcd API for tests.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_client::{Client, ConnectOptions, Error};

/// The default timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// A client of the given endpoints, with a timeout of 40 s per call.
///
/// # Errors
/// An endpoint is not a valid address.
pub async fn connect(endpoints: &[String]) -> Result<Client> {
    connect_with(endpoints, ConnectOptions::new().with_timeout(CALL_TIMEOUT)).await
}

/// A client of the given endpoints with custom options.
///
/// # Errors
/// An endpoint is not a valid address.
pub async fn connect_with(endpoints: &[String], options: ConnectOptions) -> Result<Client> {
    let options = options.with_connect_timeout(Duration::from_secs(2));
    Client::connect(endpoints, Some(options))
        .await
        .with_context(|| format!("connect to {endpoints:?}"))
}

/// A server's refusal of a call: the name of the gRPC code and the exact message.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused {
    /// For example `OutOfRange`.
    pub code: String,
    /// For example `etcdserver: mvcc: required revision has been compacted`.
    pub message: String,
}

impl Refused {
    /// A refusal with this code and message.
    #[must_use]
    pub fn with(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }

    /// The refusal in an error of the client crate; `None` for the client's own errors.
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

/// The refusal of a call.
///
/// # Errors
/// The call succeeded, or failed before a server answered.
pub fn refused<T: fmt::Debug>(answer: Result<T, Error>) -> Result<Refused> {
    match answer {
        Ok(value) => bail!("the call should have been refused, but answered {value:?}"),
        Err(error) => Refused::of(&error).with_context(|| format!("not a gRPC status: {error}")),
    }
}
