//! Users and roles: certificates that name users, the member that another one asks for its client,
//! and flags that can't be used. What stock etcd has too is tested beside it.

use bytes::Bytes;
use synod_consensus::Algorithm;
use synod_proto::etcd::authpb::{Permission, UserAddOptions, permission};
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::auth_client::AuthClient;
use synod_proto::etcd::etcdserverpb::kv_client::KvClient;
use synod_proto::etcd::v3lockpb::LockRequest;
use synod_proto::etcd::v3lockpb::lock_client::LockClient;
use synod_testkit::certificates::{Authority, Subject};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::{Cluster, config, refused};
use crate::tls::{as_client, readdressed, serve_with, start, stop};

on_both! {
    a_certificate_names_a_user,
}

/// Adds root with a password and alice without one, who may use the keys that begin with `a`.
async fn enforce_users(channel: Channel) {
    let mut auth = AuthClient::new(channel);
    for (name, password) in [("root", "pw"), ("alice", "")] {
        let no_password = password.is_empty();
        let user = pb::AuthUserAddRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            options: Some(UserAddOptions { no_password }),
            ..Default::default()
        };
        auth.user_add(user).await.unwrap();
        let role = pb::AuthRoleAddRequest {
            name: name.to_owned(),
        };
        auth.role_add(role).await.unwrap();
        let granted = pb::AuthUserGrantRoleRequest {
            user: name.to_owned(),
            role: name.to_owned(),
        };
        auth.user_grant_role(granted).await.unwrap();
    }
    let permission = Permission {
        perm_type: permission::Type::Readwrite.into(),
        key: Bytes::from("a"),
        range_end: Bytes::from("b"),
    };
    let granted = pb::AuthRoleGrantPermissionRequest {
        name: "alice".to_owned(),
        perm: Some(permission),
    };
    auth.role_grant_permission(granted).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest::default())
        .await
        .unwrap();
}

fn put(key: &'static str) -> Request<pb::PutRequest> {
    Request::new(pb::PutRequest {
        key: Bytes::from(key),
        ..Default::default()
    })
}

async fn answer(channel: &Channel, request: Request<pb::PutRequest>) -> Result<(), (Code, String)> {
    let told = |status: Status| (status.code(), status.message().to_owned());
    let put = KvClient::new(channel.clone()).put(request).await;
    put.map(drop).map_err(told)
}

async fn a_certificate_names_a_user(algorithm: Algorithm) {
    let dir = tempfile::tempdir().unwrap();
    let clients = Authority::new(&dir.path().join("clients")).unwrap();
    let server = clients.issue("server", &Subject::new("server")).unwrap();
    let mut configs = readdressed(1, dir.path(), |url, _| vec![url.replace("http:", "https:")]);
    let config = &mut configs[0];
    config.algorithm = Some(algorithm);
    config.auth.bcrypt_cost = 4;
    serve_with(&mut config.client_tls, &server, &clients);
    config.listen_peer_urls[0] = config.listen_peer_urls[0].replace("https:", "http:");
    config.initial_advertise_peer_urls[0] =
        config.initial_advertise_peer_urls[0].replace("https:", "http:");
    crate::support::join(&mut configs);
    let nodes = start(configs).await;
    let url = nodes[0].client_urls()[0].clone();
    let mut channels = Vec::new();
    for name in ["alice", "mallory"] {
        let shown = clients.issue(name, &Subject::new(name)).unwrap();
        let channel = as_client(&clients, Some(&shown)).connect(&url).await;
        channels.push(channel.unwrap());
    }
    enforce_users(channels[0].clone()).await;

    let denied = Err((
        Code::PermissionDenied,
        "etcdserver: permission denied".to_owned(),
    ));
    assert_eq!(answer(&channels[0], put("a1")).await, Ok(()));
    assert_eq!(answer(&channels[0], put("c1")).await, denied);
    assert_eq!(answer(&channels[1], put("a1")).await, denied);
    // The certificate of a gateway is not its clients'.
    let mut of_gateway = put("a1");
    let metadata = of_gateway.metadata_mut();
    metadata.insert("grpcgateway-accept", "*/*".parse().unwrap());
    let nobody = Err((
        Code::InvalidArgument,
        "etcdserver: user name is empty".to_owned(),
    ));
    assert_eq!(answer(&channels[0], of_gateway).await, nobody);
    // A token counts before the certificate.
    let login = pb::AuthenticateRequest {
        name: "root".to_owned(),
        password: "pw".to_owned(),
    };
    let login = AuthClient::new(channels[0].clone())
        .authenticate(login)
        .await;
    let token = login.unwrap().into_inner().token;
    let mut by_root = put("c1");
    by_root
        .metadata_mut()
        .insert("token", token.parse().unwrap());
    assert_eq!(answer(&channels[0], by_root).await, Ok(()));
    stop(nodes).await;
}

/// A client can't claim on the client port to be a member that forwards a request.
#[tokio::test]
async fn only_members_speak_for_others() {
    let cluster = Cluster::start(1).await;
    let url = cluster.nodes[0].client_urls()[0].clone();
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    enforce_users(channel.clone()).await;
    let requester = synod_proto::consensus::v1::Requester {
        user: "root".to_owned(),
        auth_revision: u64::MAX,
        member: true,
    };
    let requester = prost::Message::encode_to_vec(&requester);
    let mut request = Request::new(pb::LeaseTimeToLiveRequest { id: 1, keys: true });
    let metadata = request.metadata_mut();
    metadata.insert("synod-forwarded", "true".parse().unwrap());
    let value = tonic::metadata::MetadataValue::from_bytes(&requester);
    metadata.insert_bin("synod-forwarded-for-bin", value);
    let mut leases = pb::lease_client::LeaseClient::new(channel);
    let refused = leases.lease_time_to_live(request).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: user name is empty");
    cluster.stop().await;
}

/// A request that shows the token.
fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("token", token.parse().unwrap());
    request
}

async fn log_in(channel: &Channel, name: &str, password: &str) -> Result<String, Status> {
    let login = pb::AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    };
    let answer = AuthClient::new(channel.clone()).authenticate(login).await?;
    Ok(answer.into_inner().token)
}

/// A denied write adds no entry to the log and raises no alarm.
#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let cluster = Cluster::start_with(1, |config| config.quota_bytes = 64 << 10).await;
    let url = cluster.nodes[0].client_urls()[0].clone();
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    enforce_users(channel.clone()).await;
    let root = log_in(&channel, "root", "pw").await.unwrap();
    let bob = pb::AuthUserAddRequest {
        name: "bob".to_owned(),
        password: "pw".to_owned(),
        ..Default::default()
    };
    let mut auth = AuthClient::new(channel.clone());
    auth.user_add(by(&root, bob)).await.unwrap();
    let bob = log_in(&channel, "bob", "pw").await.unwrap();
    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(channel.clone());
    let mut status = async || {
        let status = maintenance.status(by(&root, pb::StatusRequest {}));
        let status = status.await.unwrap().into_inner();
        (status.raft_applied_index, status.errors)
    };
    let before = status().await;

    let too_much = pb::PutRequest {
        key: Bytes::from("a"),
        value: Bytes::from(vec![0; 100 << 10]),
        ..Default::default()
    };
    let put_op = |put: &pb::PutRequest| pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(put.clone())),
        }],
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: Bytes::from("a"),
        range_end: Bytes::from("b"),
        prev_kv: true,
    };
    let mut put_and_read = put_op(&put("a").into_inner());
    let read = pb::RangeRequest {
        key: Bytes::from("a"),
        range_end: Bytes::from("b"),
        ..Default::default()
    };
    put_and_read.success.push(pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(read)),
    });
    let mut kv = KvClient::new(channel.clone());
    let mut lock = LockClient::new(channel.clone());
    let mut lease = pb::lease_client::LeaseClient::new(channel.clone());
    let grant = pb::LeaseGrantRequest { ttl: 100, id: 0 };
    for refused in [
        kv.put(too_much.clone()).await.map(drop),
        kv.put(put("a").into_inner()).await.map(drop),
        kv.delete_range(delete.clone()).await.map(drop),
        kv.txn(put_op(&too_much)).await.map(drop),
        lease.lease_grant(grant).await.map(drop),
        lease
            .lease_revoke(pb::LeaseRevokeRequest { id: 1 })
            .await
            .map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.message(), "etcdserver: user name is empty");
    }
    // A user is known, and may do nothing here.
    for refused in [
        kv.put(by(&bob, too_much.clone())).await.map(drop),
        kv.txn(by(&bob, put_op(&too_much))).await.map(drop),
        kv.txn(by(&bob, put_and_read)).await.map(drop),
        kv.delete_range(by(&bob, delete)).await.map(drop),
        // The lock would be entered with a new lease.
        lock.lock(by(
            &bob,
            LockRequest {
                name: "a".into(),
                lease: 0,
            },
        ))
        .await
        .map(drop),
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    // Names and passwords that nobody can have.
    for (name, password) in [
        ("n".repeat(1025), "pw".into()),
        ("root".into(), "p".repeat(1025)),
    ] {
        let refused = log_in(&channel, &name, &password).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    assert_eq!(status().await, before);
    let no_space = kv.put(by(&root, too_much)).await.unwrap_err();
    assert_eq!(no_space.code(), Code::ResourceExhausted);
    assert_eq!(status().await.1.len(), 1, "an alarm");
    cluster.stop().await;
}

#[tokio::test]
async fn tokens_that_cannot_be_made_are_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    for (token, told) in [
        ("saml", "--auth-token: auth: invalid auth options"),
        (
            "jwt,sign-method=ES256",
            "--auth-token: auth: missing key data",
        ),
        (
            "jwt,priv-key=/none,sign-method=ES256",
            "--auth-token: auth: cannot use the key in /none",
        ),
    ] {
        let mut config = config("n", dir.path());
        config.auth.token = token.to_owned();
        let data = config.data_dir.clone();
        let refused = refused(config).await;
        assert!(refused.starts_with(told), "{refused}");
        assert!(!data.exists(), "nothing was written");
    }
}
