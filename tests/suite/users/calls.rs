//! Every RPC with each kind of credentials. `calls.txt` has stock etcd's answers, and ours must be
//! the same. To rewrite the file, run the test on stock etcd with `SYNOD_BLESS=1`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{LeaseGrantOptions, PutOptions};
use synod_testkit::{Cluster, Lab, Server, Topology};

use super::{client_of, enforce_users, log_in};
use crate::differences::LOCK_CODES;
use crate::support::compare_recorded;
use crate::support::proto::{bytes, bytes_of, number};
use crate::support::raw;

on_all!(Small => every_call_is_checked);

const SOON: Duration = Duration::from_secs(30);
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Services whose errors have another code in etcd.
const WITH_OTHER_CODES: [&str; 2] = ["/v3lockpb.Lock/", "/v3electionpb.Election/"];

/// How a method answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unary,
    /// One request, many answers.
    Download,
    /// Many of both.
    Stream,
}

use Kind::{Download, Stream, Unary};

type Row = (&'static str, Kind, Vec<u8>);

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn key_rows() -> Vec<Row> {
    let key = |key: &str| bytes(1, key.as_bytes());
    let put = joined(&[key("r/1"), bytes(2, b"v")]);
    // A transaction that puts the key.
    let txn = bytes(3, &bytes(2, &put));
    vec![
        ("/etcdserverpb.KV/Put", Unary, put),
        ("/etcdserverpb.KV/Range", Unary, key("r/1")),
        ("/etcdserverpb.KV/RangeStream", Download, key("r/1")),
        ("/etcdserverpb.KV/Txn", Unary, txn),
        ("/etcdserverpb.KV/DeleteRange", Unary, key("r/2")),
        (WATCH, Stream, bytes(1, &key("r/1"))),
        ("/etcdserverpb.KV/Compact", Unary, number(1, 2)),
    ]
}

/// Lease 7 has a key that alice may not read.
fn lease_rows() -> Vec<Row> {
    let lease = || number(1, 7);
    let with_keys = joined(&[lease(), number(2, 1)]);
    vec![
        ("/etcdserverpb.Lease/LeaseGrant", Unary, number(1, 100)),
        ("/etcdserverpb.Lease/LeaseKeepAlive", Stream, lease()),
        ("/etcdserverpb.Lease/LeaseTimeToLive", Unary, with_keys),
        ("/etcdserverpb.Lease/LeaseTimeToLive", Unary, lease()),
        ("/etcdserverpb.Lease/LeaseLeases", Unary, Vec::new()),
        ("/etcdserverpb.Lease/LeaseRevoke", Unary, lease()),
    ]
}

/// Calls that would change the cluster name members that don't exist.
fn operator_rows() -> Vec<Row> {
    let nobody = || number(1, 1);
    let url = |field| bytes(field, b"http://127.0.0.1:1");
    let disarm = joined(&[number(1, 2), number(3, 1)]);
    vec![
        (
            "/etcdserverpb.Cluster/MemberAdd",
            Unary,
            joined(&[url(1), number(2, 1)]),
        ),
        ("/etcdserverpb.Cluster/MemberRemove", Unary, nobody()),
        (
            "/etcdserverpb.Cluster/MemberUpdate",
            Unary,
            joined(&[nobody(), url(2)]),
        ),
        ("/etcdserverpb.Cluster/MemberPromote", Unary, nobody()),
        ("/etcdserverpb.Cluster/MemberList", Unary, Vec::new()),
        ("/etcdserverpb.Maintenance/Alarm", Unary, Vec::new()),
        ("/etcdserverpb.Maintenance/Alarm", Unary, disarm),
        ("/etcdserverpb.Maintenance/Status", Unary, Vec::new()),
        ("/etcdserverpb.Maintenance/Defragment", Unary, Vec::new()),
        ("/etcdserverpb.Maintenance/Hash", Unary, Vec::new()),
        ("/etcdserverpb.Maintenance/HashKV", Unary, Vec::new()),
        ("/etcdserverpb.Maintenance/Snapshot", Download, Vec::new()),
        ("/etcdserverpb.Maintenance/MoveLeader", Unary, nobody()),
        ("/etcdserverpb.Maintenance/Downgrade", Unary, Vec::new()),
    ]
}

/// Whatever root does must leave root and alice as they are.
fn user_rows() -> Vec<Row> {
    let text = |field, text: &str| bytes(field, text.as_bytes());
    let user_and_role = || joined(&[text(1, "new"), text(2, "r")]);
    let password = || joined(&[text(1, "new"), text(2, "pw")]);
    let permission = joined(&[number(1, 2), bytes(2, b"k")]);
    vec![
        ("/etcdserverpb.Auth/AuthEnable", Unary, Vec::new()),
        ("/etcdserverpb.Auth/AuthStatus", Unary, Vec::new()),
        (
            "/etcdserverpb.Auth/Authenticate",
            Unary,
            joined(&[text(1, "alice"), text(2, "pw")]),
        ),
        ("/etcdserverpb.Auth/UserAdd", Unary, password()),
        ("/etcdserverpb.Auth/UserGet", Unary, text(1, "alice")),
        ("/etcdserverpb.Auth/UserGet", Unary, text(1, "nobody")),
        ("/etcdserverpb.Auth/UserList", Unary, Vec::new()),
        ("/etcdserverpb.Auth/UserChangePassword", Unary, password()),
        ("/etcdserverpb.Auth/UserGrantRole", Unary, user_and_role()),
        ("/etcdserverpb.Auth/UserRevokeRole", Unary, user_and_role()),
        ("/etcdserverpb.Auth/UserDelete", Unary, text(1, "new")),
        ("/etcdserverpb.Auth/RoleAdd", Unary, text(1, "new")),
        ("/etcdserverpb.Auth/RoleGet", Unary, text(1, "r")),
        ("/etcdserverpb.Auth/RoleGet", Unary, text(1, "nothing")),
        ("/etcdserverpb.Auth/RoleList", Unary, Vec::new()),
        (
            "/etcdserverpb.Auth/RoleGrantPermission",
            Unary,
            joined(&[text(1, "new"), bytes(2, &permission)]),
        ),
        (
            "/etcdserverpb.Auth/RoleRevokePermission",
            Unary,
            joined(&[text(1, "new"), bytes(2, b"k")]),
        ),
        ("/etcdserverpb.Auth/RoleDelete", Unary, text(1, "new")),
    ]
}

/// Each on a key of its own, so that nobody waits.
fn queue_rows() -> Vec<Row> {
    let leader = || bytes(1, &joined(&[bytes(1, b"r/e"), bytes(2, b"r/e/none")]));
    vec![
        ("/v3lockpb.Lock/Unlock", Unary, bytes(1, b"r/lock/none")),
        ("/v3electionpb.Election/Leader", Unary, bytes(1, b"r/e")),
        ("/v3electionpb.Election/Proclaim", Unary, leader()),
        ("/v3electionpb.Election/Resign", Unary, leader()),
    ]
}

/// Calls that wait for their turn. Other rows cover their puts and ranges.
const WAITING: [&str; 3] = [
    "/v3lockpb.Lock/Lock",
    "/v3electionpb.Election/Campaign",
    "/v3electionpb.Election/Observe",
];

fn rows() -> Vec<Row> {
    let last = ("/etcdserverpb.Auth/AuthDisable", Unary, Vec::new());
    [
        key_rows(),
        lease_rows(),
        operator_rows(),
        user_rows(),
        queue_rows(),
        vec![last],
    ]
    .concat()
}

/// What a call is answered.
async fn outcome(endpoint: &str, token: Option<&str>, row: &Row) -> Result<String> {
    let (path, kind, message) = row;
    let call = async {
        let message = message.clone();
        match kind {
            Unary => raw::call_as(endpoint, token, path, message).await,
            Download => raw::download_as(endpoint, token, path, message).await,
            Stream => raw::first_as(endpoint, token, path, message).await,
        }
    };
    let answer = tokio::time::timeout(SOON, call).await;
    Ok(match answer.context("silence")?? {
        Err(refused) => format!("{}: {}", refused.code, refused.message),
        Ok(answer) if *path == WATCH => match bytes_of(&answer, 6).pop() {
            Some(reason) => format!("canceled: {}", String::from_utf8(reason)?),
            None => "ok".to_owned(),
        },
        Ok(_) => "ok".to_owned(),
    })
}

async fn every_call_is_checked(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let endpoint = cluster.endpoint(0);
    let mut client = cluster.client(0).await?;
    client.user_add("weak", "pw", None).await?;
    enforce_users(&mut client).await?;
    let mut root = client_of(&cluster, 0, "root", "root").await?;
    let id = Some(LeaseGrantOptions::new().with_id(7));
    root.lease_grant(600, id).await?;
    let attached = Some(PutOptions::new().with_lease(7));
    root.put("private", "v", attached).await?;

    let mut tokens = Vec::new();
    for (name, password) in [("weak", "pw"), ("alice", "pw"), ("root", "root")] {
        let token = log_in(&endpoint, name, password).await?;
        tokens.push((name, token.ok().context(name)?));
    }
    let mut callers = vec![("nobody", None), ("a stranger", Some("no.1"))];
    callers.extend(tokens.iter().map(|(name, token)| (*name, Some(&**token))));
    let mut told = String::new();
    for row in rows() {
        for (name, token) in &callers {
            let outcome = outcome(&endpoint, *token, &row).await;
            let outcome = outcome.with_context(|| format!("{name} calls {}", row.0))?;
            told += &format!("{} | {name} | {outcome}\n", row.0);
        }
    }
    compare_recorded(server, "suite/users/calls.txt", &told, |told, wanted| {
        differs_in_code(server, told, wanted)
    })
}

/// Whether only the codes differ, of an error of Lock or Election.
fn differs_in_code(server: Server, told: &str, wanted: &str) -> bool {
    let without_code = |line: &str| {
        let (call, outcome) = line.rsplit_once(" | ")?;
        let (_code, message) = outcome.split_once(": ")?;
        let other = WITH_OTHER_CODES.iter().any(|path| call.starts_with(path));
        other.then(|| (call.to_owned(), message.to_owned()))
    };
    let is_same = without_code(told).is_some_and(|told| without_code(wanted) == Some(told));
    LOCK_CODES.expect(server, false, is_same)
}

/// All methods that the proto files of etcd's API declare.
fn declared() -> Result<BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/etcd");
    let mut folders = vec![folder];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path: PathBuf = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let (mut package, mut service) = ("", "");
            for line in text.lines().map(str::trim) {
                let word = |line: &'_ str| line.split([' ', ';', '(', '{']).next().map(str::len);
                let take = |rest| word(rest).map_or("", |end| &rest[..end]);
                if let Some(rest) = line.strip_prefix("package ") {
                    package = take(rest);
                } else if let Some(rest) = line.strip_prefix("service ") {
                    service = take(rest);
                } else if let Some(rest) = line.strip_prefix("rpc ") {
                    found.insert(format!("/{package}.{service}/{}", take(rest)));
                }
            }
        }
    }
    Ok(found)
}

#[test]
fn every_method_has_a_row() -> Result<()> {
    let asked = rows().into_iter().map(|(path, _, _)| path);
    let asked: BTreeSet<String> = asked.chain(WAITING).map(str::to_owned).collect();
    assert_eq!(asked, declared()?);
    ensure!(asked.len() > 40, "the proto files were read");
    Ok(())
}
