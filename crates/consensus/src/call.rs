//! What a request carries besides its message: its deadline, and who makes it.
//!
//! Every service begins with [`ServiceContext::admit`] and passes the [`Call`] on: to
//! [`propose`](ServiceContext::propose), which writes the client's name into the entry, or to
//! [`permit`](ServiceContext::permit) for requests that do not go through the log. A service that
//! uses another one for its client, such as Lock, passes on the call that it received.

use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use synod_auth::{
    AuthError, AuthState, CheckError, Credentials, Identity, Origin, Requirement, TokenError,
    requirement,
};
use synod_proto::consensus::v1::Requester;
use synod_rpc::ClientCertificate;
use synod_runtime::clock;
use synod_service::asked_timeout;
use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::error::Error;
use crate::shared::ServiceContext;

/// The metadata of a forwarded request that tells who made it: an encoded [`Requester`].
const FORWARDED_FOR: &str = "synod-forwarded-for-bin";

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
    /// The caller no longer waits for an answer after this.
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
    /// A client whose token is not looked up: another member has done that, or the client is
    /// logging in.
    Known(Option<Identity>),
}

impl Call {
    /// A request of this member itself.
    pub(crate) fn own(deadline: Instant) -> Self {
        let by = By::Member;
        Self { deadline, by }
    }

    /// The same request without its credentials.
    pub(crate) fn of_nobody(&self) -> Self {
        Self {
            deadline: self.deadline,
            by: By::Known(None),
        }
    }

    /// The same caller with another deadline, for a message of a stream.
    pub(crate) fn until(&self, deadline: Instant) -> Self {
        let by = self.by.clone();
        Self { deadline, by }
    }
}

impl ServiceContext {
    /// Checks whether this member answers such requests, and whether the caller may make them at
    /// all. `rpc` is the path of the RPC, such as `/etcdserverpb.KV/Put`.
    ///
    /// # Errors
    /// This member is a learner and only voters answer; the caller requires a leader and there is
    /// none; the RPC needs a user and the caller has none; or the user may not call the RPC.
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
            let allowed = self.require(&call, rpc).await;
            allowed.inspect_err(|error| self.metrics.denied.count(error))?;
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
        let certificate = match self.settings.certificates_name_users {
            true => request.extensions().get::<Arc<ClientCertificate>>(),
            false => None,
        };
        let common_name = certificate.and_then(|shown| shown.common_name.as_ref());
        Ok(Call {
            deadline: self.deadline(metadata)?,
            by: By::Client(Credentials::new(metadata, common_name)),
        })
    }

    fn deadline(&self, metadata: &MetadataMap) -> Result<Instant, Error> {
        let mut timeout = self.settings.request_timeout;
        if let Some(asked) = asked_timeout(metadata)? {
            timeout = timeout.min(asked);
        }
        Ok(clock::now() + timeout)
    }

    /// Admits a request that another member forwards for its client. Only for the peer port, whose
    /// callers are trusted to be members.
    ///
    /// # Errors
    /// The metadata is damaged.
    pub(crate) fn admit_forwarded(&self, metadata: &MetadataMap) -> Result<Call, Error> {
        let identity = match metadata.get_bin(FORWARDED_FOR) {
            None => None,
            Some(value) => {
                let bytes = value.to_bytes().map_err(|_| Error::Undecodable)?;
                let requester = Requester::decode(bytes).map_err(|_| Error::Undecodable)?;
                Origin::of(Some(&requester)).identity().cloned()
            }
        };
        Ok(Call {
            deadline: self.deadline(metadata)?,
            by: By::Known(identity),
        })
    }

    /// Metadata that tells another member who makes a request that is forwarded to it.
    ///
    /// # Errors
    /// As [`ServiceContext::identity`].
    pub(crate) async fn introduction(&self, call: &Call) -> Result<MetadataMap, Error> {
        let mut metadata = MetadataMap::new();
        if let Some(identity) = self.identity(call).await? {
            let requester = identity.to_requester().encode_to_vec();
            metadata.insert_bin(FORWARDED_FOR, MetadataValue::from_bytes(&requester));
        }
        Ok(metadata)
    }

    /// Makes the checks that need only the RPC's path.
    async fn require(&self, call: &Call, rpc: &str) -> Result<(), Error> {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        let requirement = requirement(rpc).ok_or(AuthError::PermissionDenied)?;
        match requirement {
            // The token is looked up later, when the request is checked.
            Requirement::Nothing | Requirement::ByRequest => Ok(()),
            Requirement::Authenticated | Requirement::Root => {
                let by = self.identity(call).await?;
                Ok(self.auth.admit(by.as_ref(), requirement)?)
            }
        }
    }

    /// Who makes the call; `None` while users are not enforced, or if the call has no credentials.
    ///
    /// # Errors
    /// The token is not valid, or this member can't find out in time.
    pub(crate) async fn identity(&self, call: &Call) -> Result<Option<Identity>, Error> {
        let credentials = match &call.by {
            _ if !self.auth.is_enabled() => return Ok(None),
            By::Member => return Ok(None),
            By::Known(identity) => return Ok(identity.clone()),
            By::Client(credentials) => credentials,
        };
        let applied = self.replica.applied().get();
        match self.auth.identify(credentials, applied) {
            Ok(identity) => Ok(identity),
            Err(TokenError::Invalid) => Err(AuthError::InvalidToken.into()),
            Err(TokenError::NotYet) => {
                // Another member may have issued it, and this one may be behind.
                self.linearize(call.deadline).await?;
                Ok(self.auth.identify_up_to_date(credentials)?)
            }
        }
    }

    /// The requester to write into the entry of a command. A client without credentials is refused
    /// before an entry is written.
    ///
    /// # Errors
    /// As [`ServiceContext::identity`]; or users are enforced and the client has no credentials.
    pub(crate) async fn requester(&self, call: &Call) -> Result<Option<Requester>, Error> {
        match call.by {
            By::Member => Ok(Some(Origin::member_requester())),
            By::Client(_) | By::Known(_) => {
                let by = self.proposer(call).await;
                let by = by.inspect_err(|error| self.metrics.denied.count(error))?;
                Ok(by.as_ref().map(Identity::to_requester))
            }
        }
    }

    async fn proposer(&self, call: &Call) -> Result<Option<Identity>, Error> {
        let shows_nothing = |by: &Option<Identity>| {
            let is_client = matches!(call.by, By::Client(_));
            by.is_none() && is_client && self.auth.is_enabled()
        };
        let by = self.identity(call).await?;
        if !shows_nothing(&by) {
            return Ok(by);
        }
        // Users may be disabled, and this member may not know it yet.
        self.linearize(call.deadline).await?;
        let by = self.identity(call).await?;
        if shows_nothing(&by) {
            return Err(AuthError::UserEmpty.into());
        }
        Ok(by)
    }

    /// Checks a request that does not go through the log. A linearizable read calls it after
    /// [`linearize`](ServiceContext::linearize), since this member may not know before that whether
    /// users are enforced. A read takes its view of the keys before the check, so that the keys are
    /// not newer than the permissions.
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
        self.examine(call, |users, by| check(users, by)).await
    }

    /// Checks a client's request, and reads what the answer needs from the same users and roles
    /// that the check used.
    ///
    /// # Errors
    /// As [`ServiceContext::permit`].
    pub(crate) async fn examine<T, E: Into<Error>>(
        &self,
        call: &Call,
        check: impl FnOnce(&Arc<AuthState>, Option<&Identity>) -> Result<T, E>,
    ) -> Result<T, Error> {
        let checked = match self.identity(call).await {
            Ok(by) => check(&self.auth.state(), by.as_ref()).map_err(Into::into),
            Err(error) => Err(error),
        };
        checked.inspect_err(|error| self.metrics.denied.count(error))
    }

    /// Checks a write early, so that a denied one takes no space in the log and raises no alarm.
    /// The decisive check is the one when the entry is applied.
    ///
    /// # Errors
    /// As [`ServiceContext::permit`].
    pub(crate) async fn permit_write<E: Into<Error>>(
        &self,
        call: &Call,
        check: impl Fn(&AuthState, Option<&Identity>) -> Result<(), E>,
    ) -> Result<(), Error> {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        let by = self.proposer(call).await;
        let by = by.inspect_err(|error| self.metrics.denied.count(error))?;
        if check(&self.auth.state(), by.as_ref()).is_ok() {
            return Ok(());
        }
        // This member may not know a new permission yet.
        self.linearize(call.deadline).await?;
        self.permit(call, check).await
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
