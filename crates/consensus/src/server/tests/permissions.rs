//! Permissions that change while a request is under way. The futures are polled by hand, so that
//! the change comes between two steps of the request.

use futures::StreamExt as _;
use prost::Message as _;
use synod_auth::Issued;
use synod_proto::consensus::v1::{AuthCommand, Requester, auth_command, command::Command as Kind};
use synod_proto::etcd::authpb::{Permission, permission};
use synod_proto::etcd::etcdserverpb::auth_server::Auth as _;
use synod_proto::etcd::etcdserverpb::kv_server::Kv as _;
use synod_proto::etcd::etcdserverpb::maintenance_server::Maintenance as _;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::*;

/// A value that can be found in a backup.
const SECRET: &[u8] = b"a value that was written after the check";

struct Fixture {
    /// A follower: it can't know by itself whether its state is up to date.
    node: Node,
    others: Vec<Node>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    /// A cluster that enforces users: root, and bob, who has a role without permissions.
    async fn start(token: impl Fn(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = token(dir.path());
        let (node, others) = start_three(dir.path(), |config| {
            config.auth.token.clone_from(&token);
            config.auth.bcrypt_cost = 4;
        })
        .await;
        let mut client = etcd_client::Client::connect(node.client_urls(), None)
            .await
            .unwrap();
        for name in ["root", "bob"] {
            client.user_add(name, "pw", None).await.unwrap();
            client.role_add(name).await.unwrap();
            client.user_grant_role(name, name).await.unwrap();
        }
        client.auth_enable().await.unwrap();
        Self {
            node,
            others,
            _dir: dir,
        }
    }

    /// Signs tokens, which name an auth revision.
    async fn with_signed_tokens() -> Self {
        Self::start(|dir| {
            let secret = dir.join("secret");
            std::fs::write(&secret, "of the test").unwrap();
            format!("jwt,priv-key={},sign-method=HS256", secret.display())
        })
        .await
    }

    /// A request with a token of the next auth revision, which waits for that revision.
    fn early<T>(&self, message: T) -> Request<T> {
        let auth = &self.node.shared.auth;
        let next = auth.state().revision() + 1;
        let Issued::Done(token) = auth.tokens().issue("root", next).unwrap() else {
            panic!("a signed token");
        };
        with_token(&token, message)
    }

    async fn stop(self) {
        for node in self.others.into_iter().chain([self.node]) {
            node.shutdown().await;
        }
    }

    /// Proposes a command of root.
    async fn propose(&self, command: Kind) {
        let shared = &self.node.shared;
        let root = Requester {
            user: "root".to_owned(),
            auth_revision: shared.auth.state().revision(),
            member: false,
        };
        let mut metadata = MetadataMap::new();
        let root = MetadataValue::from_bytes(&root.encode_to_vec());
        metadata.insert_bin("synod-forwarded-for-bin", root);
        let call = shared.admit_forwarded(&metadata).unwrap();
        shared.propose(command, &call).await.unwrap();
    }

    async fn change_users(&self, change: auth_command::Command) {
        let command = AuthCommand {
            command: Some(change),
        };
        self.propose(Kind::Auth(command)).await;
    }

    /// Makes the next auth revision, and then writes.
    async fn write_after_a_change(&self, role: &str) {
        let role = pb::AuthRoleAddRequest {
            name: role.to_owned(),
        };
        self.change_users(auth_command::Command::RoleAdd(role))
            .await;
        let put = pb::PutRequest {
            key: "k".into(),
            value: SECRET.into(),
            ..Default::default()
        };
        self.propose(Kind::Put(put)).await;
    }
}

fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = token.parse().unwrap();
    request.metadata_mut().insert("token", token);
    request
}

#[tokio::test]
async fn what_is_read_is_not_newer_than_the_permissions() {
    let fixture = Fixture::with_signed_tokens().await;
    let node = &fixture.node;
    let shared = || Arc::clone(&node.shared);
    let maintenance = MaintenanceService::new(shared(), Arc::clone(&node.leases));
    let before = node.shared.view.revision();

    let mut hash = pin!(maintenance.hash(fixture.early(pb::HashRequest {})));
    let mut hash_kv = pin!(maintenance.hash_kv(fixture.early(pb::HashKvRequest { revision: 0 })));
    let mut snapshot = pin!(maintenance.snapshot(fixture.early(pb::SnapshotRequest {})));
    // Otherwise it would wait for the leader before it takes its view.
    let serializable = pb::RangeRequest {
        key: "k".into(),
        serializable: true,
        ..Default::default()
    };
    let kv = node.kv_service();
    let mut range = pin!(kv.range(fixture.early(serializable.clone())));
    let read = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(serializable)),
    };
    let mut txn = pin!(pb::kv_server::Kv::txn(
        &kv,
        fixture.early(pb::TxnRequest {
            success: vec![read],
            ..Default::default()
        })
    ));
    // They take their views, and wait until the token is known.
    assert!(futures::poll!(&mut hash).is_pending());
    assert!(futures::poll!(&mut hash_kv).is_pending());
    assert!(futures::poll!(&mut snapshot).is_pending());
    assert!(futures::poll!(&mut range).is_pending());
    assert!(futures::poll!(&mut txn).is_pending());
    fixture.write_after_a_change("other").await;

    let seen = |header: Option<pb::ResponseHeader>| header.unwrap().revision;
    assert_eq!(seen(hash.await.unwrap().into_inner().header), before);
    let hash_kv = hash_kv.await.unwrap().into_inner();
    assert_eq!(
        (seen(hash_kv.header), hash_kv.hash_revision),
        (before, before)
    );
    let parts = snapshot.await.unwrap().into_inner();
    let parts: Vec<_> = parts.map(|part| part.unwrap().blob).collect().await;
    let parts = parts.concat();
    assert!(!parts.windows(SECRET.len()).any(|window| window == SECRET));
    let range = range.await.unwrap().into_inner();
    assert_eq!((seen(range.header), range.count), (before, 0));
    assert_eq!(seen(txn.await.unwrap().into_inner().header), before);
    fixture.stop().await;
}

/// A member may not know a new permission yet: it asks the leader before it refuses a write.
#[tokio::test]
async fn a_write_is_refused_early_only_by_permissions_that_are_up_to_date() {
    let fixture = Fixture::start(|_| "simple".to_owned()).await;
    let auth = AuthService::new(Arc::clone(&fixture.node.shared));
    let login = pb::AuthenticateRequest {
        name: "bob".to_owned(),
        password: "pw".to_owned(),
    };
    let login = auth.authenticate(Request::new(login)).await.unwrap();
    let token = login.into_inner().token;
    let kv = fixture.node.kv_service();
    let delete = pb::DeleteRangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        prev_kv: true,
    };
    let mut deleted = pin!(kv.delete_range(with_token(&token, delete.clone())));
    // Its own permissions forbid it.
    assert!(futures::poll!(&mut deleted).is_pending());
    let permission = Permission {
        perm_type: permission::Type::Readwrite.into(),
        key: "k".into(),
        range_end: "l".into(),
    };
    let grant = pb::AuthRoleGrantPermissionRequest {
        name: "bob".to_owned(),
        perm: Some(permission),
    };
    let grant = auth_command::Command::RoleGrantPermission(grant);
    fixture.change_users(grant).await;
    deleted.await.unwrap();
    let other = pb::DeleteRangeRequest {
        key: "l".into(),
        range_end: "m".into(),
        ..delete
    };
    let denied = kv.delete_range(with_token(&token, other)).await;
    assert_eq!(denied.unwrap_err().code(), tonic::Code::PermissionDenied);
    fixture.stop().await;
}
