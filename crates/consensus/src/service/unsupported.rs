//! RPCs of etcd's API that come in a later release. They fail with UNIMPLEMENTED.

use synod_proto::etcd::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use crate::error::Error;

/// Users, roles and passwords.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthService;

/// Makes the whole `impl`, since `async_trait` must see its methods.
macro_rules! unimplemented_service {
    (
        $trait:path, $service:ty, $what:literal;
        [$($name:ident = $alias:ty)?]
        $($method:ident($request:ty) -> $response:ty;)*
    ) => {
        #[tonic::async_trait]
        impl $trait for $service {
            $(type $name = $alias;)?
            $(
                async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                    Err(Error::Unimplemented($what).into())
                }
            )*
        }
    };
}

unimplemented_service! {
    pb::auth_server::Auth, AuthService, "authentication";
    []
    auth_enable(pb::AuthEnableRequest) -> pb::AuthEnableResponse;
    auth_disable(pb::AuthDisableRequest) -> pb::AuthDisableResponse;
    auth_status(pb::AuthStatusRequest) -> pb::AuthStatusResponse;
    authenticate(pb::AuthenticateRequest) -> pb::AuthenticateResponse;
    user_add(pb::AuthUserAddRequest) -> pb::AuthUserAddResponse;
    user_get(pb::AuthUserGetRequest) -> pb::AuthUserGetResponse;
    user_list(pb::AuthUserListRequest) -> pb::AuthUserListResponse;
    user_delete(pb::AuthUserDeleteRequest) -> pb::AuthUserDeleteResponse;
    user_change_password(pb::AuthUserChangePasswordRequest) -> pb::AuthUserChangePasswordResponse;
    user_grant_role(pb::AuthUserGrantRoleRequest) -> pb::AuthUserGrantRoleResponse;
    user_revoke_role(pb::AuthUserRevokeRoleRequest) -> pb::AuthUserRevokeRoleResponse;
    role_add(pb::AuthRoleAddRequest) -> pb::AuthRoleAddResponse;
    role_get(pb::AuthRoleGetRequest) -> pb::AuthRoleGetResponse;
    role_list(pb::AuthRoleListRequest) -> pb::AuthRoleListResponse;
    role_delete(pb::AuthRoleDeleteRequest) -> pb::AuthRoleDeleteResponse;
    role_grant_permission(pb::AuthRoleGrantPermissionRequest) -> pb::AuthRoleGrantPermissionResponse;
    role_revoke_permission(pb::AuthRoleRevokePermissionRequest) -> pb::AuthRoleRevokePermissionResponse;
}
