//! What a request says besides its message: until when an answer is of use, and who makes it.
//!
//! Every service begins with [`ServiceContext::admit`] and passes the [`Call`] on: to
//! [`propose`](ServiceContext::propose), which writes the client's name into the entry, or to
//! [`permit`](ServiceContext::permit) for what does not go through the log. A service that calls
//! another one for its client, such as Lock, passes on the call that it got.

use std::sync::Arc;
use std::time::Instant;

use synod_auth::{
    AuthError, AuthState, CheckError, Credentials, Identity, Origin, Requirement, TokenError,
    requirement,
};
use synod_proto::consensus::v1::Requester;
use synod_rpc::ClientCertificate;
use synod_runtime::clock;
use synod_service::asked_timeout;
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::error::Error;
use crate::shared::ServiceContext;

/// Which members answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Voters and learners.
    Anyone,
    /// Only voters.
    NeedsVoter,
}

/// A request that was admitted.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Nobody waits for an answer after this.
    pub(crate) deadline: Instant,
    by: By,
}

/// Who makes a request.
#[derive(Clone, Debug)]
enum By {
    /// This member itself.
    Member,
    /// A client. Its token may end during the call, so it is looked up whenever it matters.
    Client(Credentials),
    /// A client of another member, which has looked up its token.
    Forwarded(Option<Identity>),
}

impl Call {
    /// What this member does by itself.
    pub(crate) fn own(deadline: Instant) -> Self {
        let by = By::Member;
        Self { deadline, by }
    }

    /// A request of a client of another member. Only for requests on the peer port.
    pub(crate) fn forwarded(identity: Option<Identity>, deadline: Instant) -> Self {
        let by = By::Forwarded(identity);
        Self { deadline, by }
    }

    /// The same caller with another deadline, for a message of a stream.
    pub(crate) fn until(&self, deadline: Instant) -> Self {
        let by = self.by.clone();
        Self { deadline, by }
    }
}

impl ServiceContext {
    /// Checks whether this member answers the caller, and whether the caller may make such calls at
    /// all. `rpc` is the path of the RPC, such as `/etcdserverpb.KV/Put`.
    ///
    /// # Errors
    /// This member is a learner and only voters answer; or the caller requires a leader and there
    /// is none; or the RPC needs a user and the caller shows none, or one who may not call it.
    pub(crate) fn admit<T>(
        &self,
        request: &Request<T>,
        rpc: &'static str,
        caller: Caller,
    ) -> impl Future<Output = Result<Call, Error>> + Send {
        // Streams can't be shared between threads, so the future doesn't hold the request.
        let call = self.call(request, caller);
        async move {
            let call = call?;
            self.require(&call, rpc).await?;
            Ok(call)
        }
    }

    fn call<T>(&self, request: &Request<T>, caller: Caller) -> Result<Call, Error> {
        let metadata = request.metadata();
        if caller == Caller::NeedsVoter && self.view.is_learner() {
            return Err(Error::LearnerUnsupported);
        }
        if self.leader().is_none() && wants_leader(metadata) {
            return Err(Error::NoLeader);
        }
        let mut timeout = self.settings.request_timeout;
        if let Some(asked) = asked_timeout(metadata)? {
            timeout = timeout.min(asked);
        }
        let certificate = match self.settings.certificates_name_users {
            true => request.extensions().get::<Arc<ClientCertificate>>(),
            false => None,
        };
        let common_name = certificate.and_then(|shown| shown.common_name.as_ref());
        Ok(Call {
            deadline: clock::now() + timeout,
            by: By::Client(Credentials::new(metadata, common_name)),
        })
    }

    /// What can be checked before the request is looked at.
    async fn require(&self, call: &Call, rpc: &str) -> Result<(), Error> {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        let requirement = requirement(rpc).ok_or(AuthError::PermissionDenied)?;
        match requirement {
            // The token is looked up when the request is checked, and only then.
            Requirement::Nothing | Requirement::ByRequest => Ok(()),
            Requirement::Authenticated | Requirement::Root => {
                let by = self.identity(call).await?;
                Ok(self.auth.admit(by.as_ref(), requirement)?)
            }
        }
    }

    /// Who makes the call; nobody while users are not enforced, or if the call does not say.
    ///
    /// # Errors
    /// The token is not valid, or this member can't find out in time.
    pub(crate) async fn identity(&self, call: &Call) -> Result<Option<Identity>, Error> {
        let credentials = match &call.by {
            _ if !self.auth.is_enabled() => return Ok(None),
            By::Member => return Ok(None),
            By::Forwarded(identity) => return Ok(identity.clone()),
            By::Client(credentials) => credentials,
        };
        let identify = || {
            let applied = self.replica.applied().get();
            self.auth.identify(credentials, applied)
        };
        let found = match identify() {
            Err(TokenError::NotYet) => {
                // Another member has issued it, and this one may be behind.
                self.linearize(call.deadline).await?;
                identify()
            }
            found => found,
        };
        found.map_err(|error| match error {
            // No entry has granted it.
            TokenError::Invalid | TokenError::NotYet => AuthError::InvalidToken.into(),
        })
    }

    /// What the entry of a command says about who makes the call.
    ///
    /// # Errors
    /// As [`ServiceContext::identity`].
    pub(crate) async fn requester(&self, call: &Call) -> Result<Option<Requester>, Error> {
        match call.by {
            By::Member => Ok(Some(Origin::member_requester())),
            By::Client(_) | By::Forwarded(_) => {
                let by = self.identity(call).await?;
                Ok(by.as_ref().map(Identity::to_requester))
            }
        }
    }

    /// Checks a request that does not go through the log. A linearizable read calls it after
    /// [`linearize`](ServiceContext::linearize), since before this member may not know yet that
    /// users are enforced. A read takes its view of the keys first: then what it reads is not newer
    /// than the permissions.
    ///
    /// # Errors
    /// As [`ServiceContext::identity`], and those of `check`.
    pub(crate) async fn permit<E: Into<Error>>(
        &self,
        call: &Call,
        check: impl FnOnce(&AuthState, Option<&Identity>) -> Result<(), E>,
    ) -> Result<(), Error> {
        if !self.auth.is_enabled() || matches!(call.by, By::Member) {
            return Ok(());
        }
        let by = self.identity(call).await?;
        check(&self.auth.state(), by.as_ref()).map_err(Into::into)
    }
}

impl From<CheckError<Self>> for Error {
    fn from(error: CheckError<Self>) -> Self {
        match error {
            CheckError::Denied(error) => error.into(),
            CheckError::Host(error) => error,
        }
    }
}

/// Whether the client asks, in the metadata, to fail instead of waiting for a leader.
pub(crate) fn wants_leader(metadata: &MetadataMap) -> bool {
    metadata
        .get("hasleader")
        .is_some_and(|value| value == "true")
}
