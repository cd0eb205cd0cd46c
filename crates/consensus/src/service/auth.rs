//! Users, roles and logins. Changes go through the log, which checks them; a login leaves only a
//! digest of its token there.

use std::sync::Arc;
use std::time::Duration;

use synod_auth::{AuthError, AuthState, Identity, Issued, LoginError, may_log_in};
use synod_proto::consensus::v1::auth_command::Command as Change;
use synod_proto::consensus::v1::{AuthCommand, command::Command as Kind};
use synod_proto::etcd::etcdserverpb as pb;
use synod_rpc::Remote;
use synod_runtime::clock;
use tonic::{Request, Response, Status};

use crate::call::{Call, Caller};
use crate::error::Error;
use crate::shared::{Applied, ServiceContext};
use crate::state::Reply;
use crate::version::USERS;

/// The members of a new cluster agree on its feature level within about a second.
const AGREEMENT: Duration = Duration::from_secs(3);

/// The Auth service of the client port.
#[derive(Clone)]
pub(crate) struct AuthService {
    shared: Arc<ServiceContext>,
}

impl AuthService {
    pub(crate) fn new(shared: Arc<ServiceContext>) -> Self {
        Self { shared }
    }

    async fn change(&self, change: Change, call: &Call) -> Result<Applied, Error> {
        self.await_users(call).await?;
        let command = AuthCommand {
            command: Some(change),
        };
        self.shared.propose(Kind::Auth(command), call).await
    }

    /// Waits until the cluster's feature level allows users, which takes a moment in a new cluster.
    ///
    /// # Errors
    /// The cluster's feature level stays too low.
    async fn await_users(&self, call: &Call) -> Result<(), Error> {
        let view = &self.shared.view;
        let until = call.deadline.min(clock::now() + AGREEMENT);
        // Whether it was in time, the roster tells.
        let _in_time = clock::timeout_at(until, view.await_feature_level(USERS)).await;
        view.roster().check_users()
    }

    /// Admits a change and makes it.
    async fn admit_change<T>(
        &self,
        request: Request<T>,
        rpc: &'static str,
        change: impl FnOnce(T) -> Change,
    ) -> Result<Option<pb::ResponseHeader>, Error> {
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let change = change(request.into_inner());
        let applied = self.change(change, &call).await?;
        Ok(Some(applied.header))
    }

    /// Users and roles as of everything that was acknowledged before.
    ///
    /// # Errors
    /// No leader or no quorum in time, or the caller may not ask this.
    async fn read<T>(
        &self,
        call: &Call,
        check: impl FnOnce(&AuthState, Option<&Identity>) -> Result<(), AuthError>,
        read: impl FnOnce(&AuthState) -> Result<T, AuthError>,
    ) -> Result<(Option<pb::ResponseHeader>, T), Error> {
        self.shared.linearize(call.deadline).await?;
        // Read with the check, since users may change between the two.
        let checked = self.shared.examine(call, |users, by| {
            check(users, by)?;
            read(users)
        });
        let found = checked.await?;
        Ok((Some(self.shared.header_now()), found))
    }

    /// Checks the password and returns a token, which all members know.
    async fn log_in(
        &self,
        user: &str,
        password: &str,
        call: &Call,
    ) -> Result<(pb::ResponseHeader, String), Error> {
        if !may_log_in(user, password) {
            return Err(AuthError::AuthFailed.into());
        }
        let auth = &self.shared.auth;
        loop {
            // This member must know every password change that was acknowledged.
            self.shared.linearize(call.deadline).await?;
            let revision = auth.check_password(user, password).await?;
            let token = match auth.tokens().issue(user, revision)? {
                Issued::Done(token) => return Ok((self.shared.header_now(), token)),
                Issued::ToPropose(token) => token,
            };
            let grant = Change::GrantToken(token.to_grant(user, revision));
            let applied = match self.change(grant, call).await {
                // Users or roles have changed since the password was checked.
                Err(Error::Auth(AuthError::OldRevision)) => continue,
                applied => applied?,
            };
            let Reply::TokenGranted { index } = applied.reply else {
                return Err(unexpected(&applied.reply));
            };
            return Ok((applied.header, token.at(index)));
        }
    }
}

#[tonic::async_trait]
impl pb::auth_server::Auth for AuthService {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/AuthEnable";
        let header = self.admit_change(request, rpc, Change::Enable).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/AuthDisable";
        let header = self.admit_change(request, rpc, Change::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/AuthStatus";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        // No token is needed, but a token that is sent must be valid.
        let anyone = |_: &AuthState, _: Option<&Identity>| Ok(());
        let status = |users: &AuthState| Ok((users.is_enabled(), users.revision()));
        let (header, (enabled, auth_revision)) = self.read(&call, anyone, status).await?;
        Ok(Response::new(pb::AuthStatusResponse {
            header,
            enabled,
            auth_revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/Authenticate";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let remote = request.extensions().get::<Remote>().copied();
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        // A client that sends an expired token must be able to log in again.
        let call = call.of_nobody();
        let outcome = self.log_in(&name, &password, &call).await;
        // If the outcome of the grant is unknown, no client has the token: the login has failed.
        let outcome = outcome.map_err(Error::of_read);
        self.shared.metrics.logins.count(&outcome);
        let (header, token) = outcome.inspect_err(|error| {
            if *error != Error::Auth(AuthError::NotEnabled) {
                let user = match may_log_in(&name, &password) {
                    true => &*name,
                    false => "(too long)",
                };
                let client = remote.map(tracing::field::display);
                tracing::warn!(user, client, %error, "a login failed");
            }
        })?;
        Ok(Response::new(pb::AuthenticateResponse {
            header: Some(header),
            token,
        }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/UserAdd";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let change = self.shared.auth.user_add(request.into_inner()).await;
        let applied = self.change(change.map_err(Error::from)?, &call).await?;
        let header = Some(applied.header);
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/UserGet";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let name = request.into_inner().name;
        let check = |users: &AuthState, by: Option<&Identity>| users.check_user_get(by, &name);
        let roles = |users: &AuthState| users.roles_of(&name).map(<[String]>::to_vec);
        let (header, roles) = self.read(&call, check, roles).await?;
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/UserList";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let users = |users: &AuthState| Ok(users.users());
        let (header, users) = self.read(&call, AuthState::check_root, users).await?;
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/UserDelete";
        let header = self.admit_change(request, rpc, Change::UserDelete).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/UserChangePassword";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let auth = &self.shared.auth;
        let change = auth.user_change_password(request.into_inner()).await;
        let applied = self.change(change.map_err(Error::from)?, &call).await?;
        let header = Some(applied.header);
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/UserGrantRole";
        let header = self.admit_change(request, rpc, Change::UserGrantRole);
        let header = header.await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/UserRevokeRole";
        let header = self.admit_change(request, rpc, Change::UserRevokeRole);
        let header = header.await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/RoleAdd";
        let header = self.admit_change(request, rpc, Change::RoleAdd).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/RoleGet";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let role = request.into_inner().role;
        let check = |users: &AuthState, by: Option<&Identity>| users.check_role_get(by, &role);
        let permissions = |users: &AuthState| users.permissions_of(&role);
        let (header, perm) = self.read(&call, check, permissions).await?;
        Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/RoleList";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let roles = |users: &AuthState| Ok(users.roles());
        let (header, roles) = self.read(&call, AuthState::check_root, roles).await?;
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/RoleDelete";
        let header = self.admit_change(request, rpc, Change::RoleDelete).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/RoleGrantPermission";
        let header = self.admit_change(request, rpc, Change::RoleGrantPermission);
        let header = header.await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse {
            header,
        }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let rpc = "/etcdserverpb.Auth/RoleRevokePermission";
        let header = self.admit_change(request, rpc, Change::RoleRevokePermission);
        let header = header.await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse {
            header,
        }))
    }
}

impl From<LoginError> for Error {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused(error) => error.into(),
            LoginError::Busy => Self::TooManyRequests,
        }
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Internal(format!("a login was answered with {reply:?}"))
}
