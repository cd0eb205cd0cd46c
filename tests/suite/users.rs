//! Users, roles and tokens, beside stock etcd.

mod calls;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Client, ConnectOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, Permission, PermissionType,
    PutOptions, WatchOptions,
};
use synod_testkit::{
    Cluster, Lab, Refused, Server, Share, Topology, connect_with, refused, run, until,
};

use crate::differences::TOKEN_AFTER_RESTART;
use crate::support::proto::{bytes, bytes_of};
use crate::support::raw;

on_all!(Whole => a_token_is_good_on_every_member_at_once, leases_are_renewed_through_any_member);
on_all!(Small => a_changed_password_ends_all_tokens, clients_log_in_again_after_a_restart);
on_both!(Small => a_watch_outlives_its_permission, tokens_are_signed, cheap_hashes_are_possible);

const SOON: Duration = Duration::from_secs(60);
const RANGE: &str = "/etcdserverpb.KV/Range";

/// Adds `root` with the password `root`, and the user `alice` with `pw`, who may read and write
/// keys that begin with `r/`. Then enforces users.
pub(crate) async fn enforce_users(client: &mut Client) -> Result<()> {
    client.user_add("root", "root", None).await?;
    client.role_add("root").await?;
    client.user_grant_role("root", "root").await?;
    client.role_add("r").await?;
    let all = Permission::new(PermissionType::Readwrite, "r/").with_prefix();
    client.role_grant_permission("r", all).await?;
    client.user_add("alice", "pw", None).await?;
    client.user_grant_role("alice", "r").await?;
    client.auth_enable().await?;
    Ok(())
}

/// The token of a login through this endpoint.
pub(crate) async fn log_in(
    endpoint: &str,
    name: &str,
    password: &str,
) -> Result<Result<String, Refused>> {
    let message = [bytes(1, name.as_bytes()), bytes(2, password.as_bytes())].concat();
    let answer = raw::call(endpoint, "/etcdserverpb.Auth/Authenticate", message).await?;
    match answer {
        Err(refused) => Ok(Err(refused)),
        Ok(answer) => {
            let token = bytes_of(&answer, 2).pop().context("a token")?;
            Ok(Ok(String::from_utf8(token)?))
        }
    }
}

/// A client of one member that logs in again when its token has ended.
async fn client_of(cluster: &Cluster, index: usize, name: &str, password: &str) -> Result<Client> {
    let options = ConnectOptions::new()
        .with_user(name, password)
        .with_auto_token_refresh(true);
    connect_with(&[cluster.endpoint(index)], options).await
}

/// Reads a key with a token.
async fn read(endpoint: &str, token: &str, key: &str) -> Result<Result<Vec<u8>, Refused>> {
    raw::call_as(endpoint, Some(token), RANGE, bytes(1, key.as_bytes())).await
}

async fn a_token_is_good_on_every_member_at_once(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    enforce_users(&mut cluster.client(0).await?).await?;
    for round in 0..30 {
        let at = round % 3;
        let token = log_in(&cluster.endpoint(at), "alice", "pw").await?;
        let token = token.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        for other in [(at + 1) % 3, (at + 2) % 3] {
            let read = read(&cluster.endpoint(other), &token, "r/1").await?;
            ensure!(read.is_ok(), "round {round}: {read:?}");
        }
    }
    // A token of no login with an index that no member has reached. Stock etcd waits for that
    // index.
    if server.is_etcd() {
        return Ok(());
    }
    let forged = format!("{}.999999999", "0".repeat(32));
    let read = read(&cluster.endpoint(1), &forged, "r/1").await?;
    let invalid = Refused::with("Unauthenticated", "etcdserver: invalid auth token");
    assert_eq!(read, Err(invalid));
    Ok(())
}

async fn leases_are_renewed_through_any_member(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    enforce_users(&mut cluster.client(0).await?).await?;
    let mut root = client_of(&cluster, 0, "root", "root").await?;
    let with = |lease| Some(PutOptions::new().with_lease(lease));
    for (lease, key) in [(7, "r/leased"), (8, "private")] {
        let id = Some(LeaseGrantOptions::new().with_id(lease));
        root.lease_grant(600, id).await?;
        root.put(key, "v", with(lease)).await?;
    }
    let denied = Refused::with("PermissionDenied", "etcdserver: permission denied");
    for index in 0..3 {
        let mut alice = client_of(&cluster, index, "alice", "pw").await?;
        for (lease, is_allowed) in [(7, true), (8, false)] {
            let renewed = alice.lease_keep_alive(lease).await;
            let ttl = match renewed {
                // The call has read the first answer.
                Ok((mut keeper, mut answers)) => {
                    keeper.keep_alive().await?;
                    Ok(answers.message().await?.context("an answer")?.ttl())
                }
                Err(error) => Err(Refused::of(&error).context("a status")?),
            };
            let expected = if is_allowed {
                Ok(600)
            } else {
                Err(denied.clone())
            };
            assert_eq!(ttl, expected, "lease {lease} through member {index}");
            let keys = LeaseTimeToLiveOptions::new().with_keys();
            let left = alice.lease_time_to_live(lease, Some(keys)).await;
            match is_allowed {
                true => assert_eq!(left?.keys(), [b"r/leased"]),
                false => assert_eq!(refused(left)?, denied),
            }
            // Without its keys, anybody may ask about a lease.
            assert_eq!(
                alice.lease_time_to_live(lease, None).await?.granted_ttl(),
                600
            );
        }
        assert_eq!(refused(alice.leases().await)?, denied);
        assert_eq!(refused(alice.lease_revoke(8).await)?, denied);
    }
    Ok(())
}

/// With the address of the client, so that operators can find it.
#[test]
fn failed_logins_are_logged() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        enforce_users(&mut cluster.client(0).await?).await?;
        let refused = log_in(&cluster.endpoint(0), "alice", "wrong").await?;
        ensure!(refused.is_err(), "a token for a wrong password");
        until("the log to tell", SOON, async || {
            let log = cluster.node(0).process()?.log_text();
            let is_told = log.lines().any(|line| {
                let words = ["a login failed", "alice", "127.0.0.1:"];
                words.iter().all(|word| line.contains(word))
            });
            Ok(is_told.then_some(()))
        })
        .await
    })
}

/// Logins race with the change. A token that was issued for the old password is refused afterwards.
async fn a_changed_password_ends_all_tokens(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let endpoint = cluster.endpoint(0);
    enforce_users(&mut cluster.client(0).await?).await?;
    let mut root = client_of(&cluster, 0, "root", "root").await?;
    for round in 0..5 {
        let (before, after) = (format!("pw{round}"), format!("pw{}", round + 1));
        root.user_change_password("alice", before.as_str()).await?;
        let mut logins = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (endpoint, before) = (endpoint.clone(), before.clone());
            logins.spawn(async move { log_in(&endpoint, "alice", &before).await });
        }
        root.user_change_password("alice", after.as_str()).await?;
        for login in logins.join_all().await {
            let invalid = Refused::with("Unauthenticated", "etcdserver: invalid auth token");
            match login? {
                Ok(token) => assert_eq!(read(&endpoint, &token, "r/1").await?, Err(invalid)),
                Err(refused) => assert_eq!(
                    refused.message,
                    "etcdserver: authentication failed, invalid user ID or password"
                ),
            }
        }
        ensure!(
            log_in(&endpoint, "alice", &after).await?.is_ok(),
            "the new one"
        );
    }
    Ok(())
}

async fn clients_log_in_again_after_a_restart(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    enforce_users(&mut cluster.client(0).await?).await?;
    let mut alice = client_of(&cluster, 0, "alice", "pw").await?;
    alice.put("r/1", "before", None).await?;
    let token = log_in(&cluster.endpoint(0), "alice", "pw").await?;
    let token = token.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    cluster.kill(0)?;
    cluster.launch(lab, 0)?;
    // Nobody can ask the cluster without a token whether it is ready.
    until("the same client to write again", SOON, async || {
        Ok(alice.put("r/1", "after", None).await.ok())
    })
    .await?;
    let read = read(&cluster.endpoint(0), &token, "r/1").await?;
    let is_good = TOKEN_AFTER_RESTART.expect(server, true, false);
    ensure!(read.is_ok() == is_good, "{read:?}");
    let ctl = cluster.etcdctl(0)?;
    let got = ctl.ok(&["--user=alice:pw", "get", "r/1"]).await?;
    assert_eq!(got.trim_end(), "r/1\nafter");
    Ok(())
}

/// What stock etcd does too: a watch is checked when it is created.
async fn a_watch_outlives_its_permission(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    enforce_users(&mut cluster.client(0).await?).await?;
    let mut alice = client_of(&cluster, 0, "alice", "pw").await?;
    let mut root = client_of(&cluster, 0, "root", "root").await?;
    let prefix = || Some(WatchOptions::new().with_prefix());
    let mut watch = alice.watch("r/", prefix()).await?;
    root.user_revoke_role("alice", "r").await?;
    root.put("r/1", "v", None).await?;
    while watch
        .message()
        .await?
        .context("an event")?
        .events()
        .is_empty()
    {}
    let again = match alice.watch("r/", prefix()).await {
        Ok(mut watch) => watch.message().await?,
        Err(_) => None,
    };
    ensure!(
        again.is_none_or(|response| response.canceled()),
        "a new watch is denied"
    );
    Ok(())
}

/// JWTs need no table of tokens: they are good after a restart too.
async fn tokens_are_signed(lab: &Lab, server: Server) -> Result<()> {
    let key = lab.folder().join("jwt.pem");
    std::fs::write(&key, include_str!("../../crates/auth/tests/keys/p256.key"))?;
    let flag = format!(
        "--auth-token=jwt,priv-key={0},sign-method=ES256,ttl=10m",
        key.display()
    );
    let mut cluster = Cluster::start(lab, server, Topology::of(1).flag(&flag)).await?;
    enforce_users(&mut cluster.client(0).await?).await?;
    let endpoint = cluster.endpoint(0);
    let token = log_in(&endpoint, "alice", "pw").await?;
    let token = token.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    assert_eq!(token.split('.').count(), 3, "{token}");
    ensure!(read(&endpoint, &token, "r/1").await?.is_ok(), "it is good");
    cluster.kill(0)?;
    cluster.launch(lab, 0)?;
    until("the token to be accepted again", SOON, async || {
        let read = read(&endpoint, &token, "r/1").await;
        Ok(read.ok().and_then(Result::ok))
    })
    .await?;
    let mut root = client_of(&cluster, 0, "root", "root").await?;
    root.user_add("bob", "pw", None).await?;
    let old = Refused::with(
        "InvalidArgument",
        "etcdserver: revision of auth store is old",
    );
    assert_eq!(read(&endpoint, &token, "r/1").await?, Err(old));
    Ok(())
}

async fn cheap_hashes_are_possible(lab: &Lab, server: Server) -> Result<()> {
    let topology = Topology::of(1)
        .flag("--bcrypt-cost=4")
        .flag("--auth-token=simple")
        .flag("--auth-token-ttl=2");
    let cluster = Cluster::start(lab, server, topology).await?;
    enforce_users(&mut cluster.client(0).await?).await?;
    let endpoint = cluster.endpoint(0);
    let token = log_in(&endpoint, "alice", "pw").await?;
    let token = token.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    ensure!(read(&endpoint, &token, "r/1").await?.is_ok(), "it is good");
    // Each use extends the token's life, so the pauses between uses grow.
    let mut pause = Duration::from_millis(500);
    until("the token to end", SOON, async || {
        tokio::time::sleep(pause).await;
        pause += Duration::from_millis(500);
        Ok(read(&endpoint, &token, "r/1").await?.err())
    })
    .await?;
    Ok(())
}
