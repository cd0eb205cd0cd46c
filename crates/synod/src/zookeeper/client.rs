//! A session with one request at a time.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use synod_jute::{
    AuthPacket, ByteString, ErrorCode, OpCode, Request, Response, ServerMessage, SyncRequest, xid,
};
use synod_runtime::clock;

use super::{Connection, Servers};
use crate::failure::{Missing, UnknownOutcome};

/// How long a session outlives a command that is killed.
const SESSION_TIMEOUT_MS: i32 = 30_000;

/// The xid of all requests: there is one at a time.
const XID: i32 = 1;

/// What a refusal means, and what to do.
const ADVICE: [(ErrorCode, &str); 8] = [
    (ErrorCode::NodeExists, "it exists already"),
    (
        ErrorCode::NotEmpty,
        "it has children; delete them with `synod zk rm -r`",
    ),
    (
        ErrorCode::BadVersion,
        "it has another version; `synod zk stat` shows it",
    ),
    (
        ErrorCode::NoAuth,
        "its access control list does not permit this; identify yourself with --auth",
    ),
    (
        ErrorCode::InvalidAcl,
        "the access control list is not valid; an entry is SCHEME:ID:PERMISSIONS, and `auth` \
         needs --auth",
    ),
    (
        ErrorCode::BadArguments,
        "the server takes the path or another argument for invalid",
    ),
    (ErrorCode::QuotaExceeded, "a quota would be exceeded"),
    (
        ErrorCode::Unimplemented,
        "the server does not know this operation, or it is switched off",
    ),
];

/// An identity that the servers check.
#[derive(Clone)]
pub(crate) struct Credential {
    scheme: String,
    secret: String,
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text is not repeated: it may be a password.
        let (scheme, secret) = text
            .split_once(':')
            .ok_or("it must be SCHEME:CREDENTIAL, such as digest:USER:PASSWORD")?;
        Ok(Self {
            scheme: scheme.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

/// Why a request has no response.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The server refused it, and did nothing.
    Refused {
        /// As the user knows it.
        path: String,
        op: OpCode,
        code: ErrorCode,
    },
    /// There is no answer that can be read.
    Unanswered { op: OpCode, reason: anyhow::Error },
}

impl Failed {
    /// The server's answer, if there is one.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unanswered { .. } => None,
        }
    }
}

impl From<Failed> for anyhow::Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unanswered { op, reason } if is_write(op) => {
                UnknownOutcome(format!("{reason:#}")).into()
            }
            Failed::Unanswered { reason, .. } => reason,
            Failed::Refused { path, op, code } => refusal(path, op, code),
        }
    }
}

fn is_write(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
    )
}

/// Says what was refused, and what to do.
fn refusal(path: String, op: OpCode, code: ErrorCode) -> anyhow::Error {
    let is_create = matches!(
        op,
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl
    );
    if code == ErrorCode::NoNode {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        return match (is_create, parent) {
            (true, "") => missing("/"),
            (true, parent) => missing(parent),
            (false, _) => missing(&path),
        };
    }
    match ADVICE.iter().find(|(known, _)| *known == code) {
        Some((_, advice)) => anyhow!("{path}: {advice}"),
        None => anyhow!("{path}: the server answers {code:?} ({})", code.code()),
    }
}

fn missing(path: &str) -> anyhow::Error {
    Missing(format!("the node {path} does not exist")).into()
}

/// An open session.
pub(crate) struct Client {
    connection: Connection,
    servers: Servers,
    timeout: Duration,
}

impl Client {
    /// Opens a session with the first server that answers.
    ///
    /// # Errors
    /// None does within the timeout for each, or one refuses a credential.
    pub(crate) async fn open(
        servers: &Servers,
        credentials: &[Credential],
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let mut failures = Vec::new();
        for address in servers.addresses() {
            let opened = clock::timeout(timeout, Connection::open(address, SESSION_TIMEOUT_MS));
            let connection = match opened.await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => {
                    failures.push(format!("{address}: {error:#}"));
                    continue;
                }
                Err(_) => {
                    failures.push(format!("{address}: no session within {timeout:?}"));
                    continue;
                }
            };
            let mut client = Self {
                connection,
                servers: servers.clone(),
                timeout,
            };
            for credential in credentials {
                client.identify(credential).await?;
            }
            return Ok(client);
        }
        bail!(
            "no ZooKeeper server opens a session: {}",
            failures.join("; ")
        )
    }

    async fn identify(&mut self, credential: &Credential) -> anyhow::Result<()> {
        let scheme = &credential.scheme;
        let packet = Request::Auth(AuthPacket {
            kind: 0,
            scheme: Some(scheme.as_str().into()),
            auth: Some(Bytes::from(credential.secret.clone())),
        });
        match self.send("", xid::AUTH, &packet).await {
            Ok(_) => Ok(()),
            Err(Failed::Refused { .. }) => {
                bail!("the server refuses the credential of the scheme `{scheme}`; see --auth")
            }
            Err(failed) => Err(failed.into()),
        }
    }

    /// A user's path as the server knows it.
    pub(crate) fn absolute(&self, path: &str) -> ByteString {
        self.servers.absolute(path).into()
    }

    /// A path of the server as the user knows it.
    pub(crate) fn relative<'a>(&self, path: &'a str) -> &'a str {
        self.servers.relative(path)
    }

    /// Catches up: later reads see all writes that were answered before, by any server.
    ///
    /// # Errors
    /// No answer.
    pub(crate) async fn sync(&mut self) -> Result<(), Failed> {
        let path = self.absolute("/");
        let request = Request::Sync(SyncRequest { path });
        self.call("/", &request).await.map(drop)
    }

    /// Makes a request, and waits for its response. Errors name the user's `path`.
    ///
    /// # Errors
    /// As [`Failed`] says. No other request can be made after [`Failed::Unanswered`].
    pub(crate) async fn call(&mut self, path: &str, request: &Request) -> Result<Response, Failed> {
        self.send(path, XID, request).await
    }

    async fn send(&mut self, path: &str, xid: i32, request: &Request) -> Result<Response, Failed> {
        let op = request.op();
        let timeout = self.timeout;
        let answered = clock::timeout(timeout, self.exchange(xid, request)).await;
        let answered = answered
            .unwrap_or_else(|_| Err(anyhow!("the server does not answer within {timeout:?}")));
        match answered {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(code)) if is_unknown(code) => Err(Failed::Unanswered {
                op,
                reason: anyhow!("the server answers {code:?}"),
            }),
            Ok(Err(code)) => Err(Failed::Refused {
                path: path.to_owned(),
                op,
                code,
            }),
            Err(reason) => Err(Failed::Unanswered { op, reason }),
        }
    }

    async fn exchange(
        &mut self,
        xid: i32,
        request: &Request,
    ) -> anyhow::Result<Result<Response, ErrorCode>> {
        self.connection.push(xid, request)?;
        self.connection.flush().await?;
        loop {
            // Events have no use here: nothing is watched.
            let ServerMessage::Reply { header, mut body } = self.connection.receive().await? else {
                continue;
            };
            if header.xid != xid {
                bail!("the server answers request {}, not {xid}", header.xid);
            }
            return Ok(match header.err {
                0 => Ok(Response::decode(request.op(), &mut body)?),
                code => Err(ErrorCode::try_from(code)?),
            });
        }
    }

    /// Ends the session, so that it does not last until its timeout.
    ///
    /// # Errors
    /// No answer.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        Ok(self.call("/", &Request::CloseSession).await.map(drop)?)
    }
}

/// Answers after which a write may have been done or may still happen.
fn is_unknown(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ConnectionLoss | ErrorCode::OperationTimeout | ErrorCode::RequestTimeout
    )
}
