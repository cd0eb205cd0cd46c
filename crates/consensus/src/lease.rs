//! Implements the host that `synod-lease` needs, on top of the replica and the published state.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_auth::{AuthError, AuthState, CheckError, Identity};
use synod_consensus_core::Role;
use synod_lease::{GrantError, Host, LeaseError};
use synod_mvcc::LeaseId;
use synod_proto::consensus::v1::command::Command as Kind;
use synod_proto::consensus::v1::{LeaseCheckpoint, LeaseClaim, LeaseRevoke};
use synod_proto::etcd::etcdserverpb::LeaseTimeToLiveRequest;
use synod_replica::Leadership;
use synod_types::NodeId;
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::call::Call;
use crate::error::Error;
use crate::shared::ServiceContext;
use crate::state::Reply;
use crate::version::LEASES_ON_PEER_PORT;

impl Host for ServiceContext {
    type Error = Error;
    type Leadership = Leadership;
    type Caller = Call;

    fn member(&self) -> NodeId {
        self.member
    }

    fn request_timeout(&self) -> Duration {
        self.settings.request_timeout
    }

    fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.replica.watch_role()
    }

    fn term_led(leadership: &Leadership) -> Option<u64> {
        (leadership.role == Role::Leader).then_some(leadership.ballot.round)
    }

    fn leader(&self) -> Option<NodeId> {
        self.leader()
    }

    fn lease_urls(&self, member: NodeId) -> Vec<String> {
        let roster = self.view.roster();
        let Some(found) = roster.member(member) else {
            return Vec::new();
        };
        // Earlier releases answer such requests on the client port alone.
        match roster.feature_level() >= LEASES_ON_PEER_PORT {
            true => found.peer_urls.clone(),
            false => found.client_urls.clone(),
        }
    }

    async fn check_renewals(&self, caller: &Call, ids: &[i64]) -> (usize, Option<Error>) {
        let key_from = |id, start: &[u8]| self.view.lease_key_from(id, start);
        let mut allowed = 0;
        let mut checked = HashSet::new();
        let check = |users: &AuthState, by: Option<&Identity>| {
            for id in ids {
                if checked.insert(*id) {
                    users.check_lease(by, *id, &key_from)?;
                }
                allowed += 1;
            }
            Ok::<_, CheckError<Error>>(())
        };
        match self.permit(caller, check).await {
            Ok(()) => (ids.len(), None),
            Err(error) => (allowed, Some(error)),
        }
    }

    async fn lease_keys(
        &self,
        caller: &Call,
        request: LeaseTimeToLiveRequest,
    ) -> Result<Vec<Bytes>, Error> {
        // The view comes first, so that the keys are not newer than the permissions.
        let view = self.view.reader().view();
        let id = LeaseId::new(request.id);
        let key_from = |_, start: &[u8]| Ok::<_, Error>(view.lease_key_from(id, start)?);
        let check = |users: &AuthState, by: Option<&Identity>| {
            users.check_time_to_live(by, request.id, request.keys, &key_from)
        };
        self.permit(caller, check).await?;
        match request.keys {
            true => Ok(view.keys_of_lease(id)?),
            false => Ok(Vec::new()),
        }
    }

    async fn introduce(&self, caller: &Call) -> Result<MetadataMap, Error> {
        self.introduction(caller).await
    }

    fn refusal(status: &Status) -> Option<Error> {
        let is_told = |error: &AuthError| error.to_string() == status.message();
        AuthError::ALL.into_iter().find(is_told).map(Error::Auth)
    }

    async fn linearize(&self, deadline: Instant) -> Result<(), Error> {
        self.linearize(deadline).await
    }

    async fn claim(&self, command: LeaseClaim, deadline: Instant) -> Result<bool, Error> {
        let reply = propose(self, Kind::LeaseClaim(command), deadline).await?;
        Ok(matches!(reply, Reply::LeasesClaimed { held: true }))
    }

    async fn checkpoint(&self, command: LeaseCheckpoint, deadline: Instant) -> Result<(), Error> {
        let reply = propose(self, Kind::LeaseCheckpoint(command), deadline);
        reply.await.map(drop)
    }

    async fn revoke(&self, command: LeaseRevoke, deadline: Instant) -> Result<bool, Error> {
        let reply = propose(self, Kind::LeaseRevoke(command), deadline).await?;
        Ok(!matches!(reply, Reply::LeasesRevoked { ids } if ids.is_empty()))
    }
}

async fn propose(
    shared: &ServiceContext,
    command: Kind,
    deadline: Instant,
) -> Result<Reply, Error> {
    let applied = shared.propose(command, &Call::own(deadline)).await?;
    Ok(applied.reply)
}

impl From<GrantError> for Error {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::NoId => Self::LeaseNotFound,
            GrantError::Exists => Self::LeaseExists,
            GrantError::TtlTooLarge => Self::LeaseTtlTooLarge,
        }
    }
}

impl From<LeaseError<Self>> for Error {
    fn from(error: LeaseError<Self>) -> Self {
        match error {
            LeaseError::NoLeader => Self::NoLeader,
            LeaseError::NotLeader => Self::NotLeader,
            LeaseError::LeaderChanged => Self::LeaderChanged,
            LeaseError::Timeout => Self::Timeout,
            LeaseError::Host(error) => error,
        }
    }
}
