//! Maintenance: Status, hashes, alarms, snapshot, defragmentation; and gRPC health.

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{AlarmAction, AlarmType, CompactionOptions};
use sha2::{Digest, Sha256};
use synod_testkit::{Refused, refused};

use super::Case;
use crate::support::{proto, raw};

pub(crate) async fn status(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let status = client.status().await?;
    let header = status.header().context("a header")?;
    assert_eq!(header.revision(), case.base);
    ensure!(
        header.member_id() != 0 && header.cluster_id() != 0,
        "{header:?}"
    );
    ensure!(status.leader() != 0 && status.raft_term() > 0, "{status:?}");
    ensure!(
        status.raft_index() >= status.raft_applied_index(),
        "{status:?}"
    );
    ensure!(
        !status.is_learner() && status.errors().is_empty(),
        "{status:?}"
    );
    assert_eq!(status.db_size_quota(), 2 * 1024 * 1024 * 1024);
    ensure!(status.version().starts_with("3."), "{}", status.version());
    let before = status.raft_index();
    client.put(case.key("k"), vec![b'v'; 10_000], None).await?;
    let after = client.status().await?;
    ensure!(
        after.db_size() > 0 && after.raft_used_db_size() > 0,
        "{after:?}"
    );
    ensure!(after.raft_index() > before, "a put is an entry of the log");
    Ok(())
}

pub(crate) async fn hashes(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    case.fill(&["a", "b"]).await?;
    let old = client.hash_kv(case.base + 1).await?;
    let new = client.hash_kv(0).await?;
    assert_eq!(new.hash_revision(), case.base + 2);
    assert_eq!(old.hash_revision(), case.base + 1);
    ensure!(old.hash() != new.hash(), "different data, the same hash");
    // A store that other cases have used may have been compacted.
    if case.base == 1 {
        assert_eq!(new.compact_version(), -1);
        assert_eq!(old.compact_version(), -1);
    }
    case.fill(&["c"]).await?;
    // The hash of a past revision doesn't change.
    assert_eq!(client.hash_kv(case.base + 1).await?.hash(), old.hash());
    assert_eq!(client.hash_kv(case.base + 2).await?.hash(), new.hash());
    assert_eq!(
        refused(client.hash_kv(case.base + 9).await)?,
        Refused::with(
            "OutOfRange",
            "etcdserver: mvcc: required revision is a future revision"
        )
    );
    client.compact(case.base + 2, None).await?;
    assert_eq!(
        refused(client.hash_kv(case.base + 1).await)?,
        Refused::with(
            "OutOfRange",
            "etcdserver: mvcc: required revision has been compacted"
        )
    );
    assert_eq!(client.hash_kv(0).await?.compact_version(), case.base + 2);
    Ok(())
}

pub(crate) async fn hashes_across_compaction(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let physical = || Some(CompactionOptions::new().with_physical());
    case.fill(&["a", "a", "a"]).await?;
    client.delete(case.key("a"), None).await?;
    case.fill(&["b", "c", "b"]).await?;
    // A deletion, a new key and an overwritten key.
    for revision in [4, 5, 7] {
        let revision = case.base + revision;
        let before = client.hash_kv(revision).await?;
        client.compact(revision, physical()).await?;
        let after = client.hash_kv(revision).await?;
        assert_eq!(after.hash(), before.hash(), "at {revision}");
        assert_eq!(after.hash_revision(), revision);
    }
    Ok(())
}

pub(crate) async fn alarms(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let none = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await?;
    ensure!(none.alarms().is_empty(), "{none:?}");
    let id = client
        .status()
        .await?
        .header()
        .context("a header")?
        .member_id();
    let mut options = etcd_client::AlarmOptions::new();
    options.with_member(id);
    let raised = client
        .alarm(
            AlarmAction::Activate,
            AlarmType::Nospace,
            Some(options.clone()),
        )
        .await?;
    let told: Vec<_> = raised
        .alarms()
        .iter()
        .map(|one| (one.member_id(), one.alarm()))
        .collect();
    assert_eq!(told, [(id, AlarmType::Nospace)]);
    // During the alarm, puts, puts in transactions and leases are refused. Everything else works.
    let full = Refused::with(
        "ResourceExhausted",
        "etcdserver: mvcc: database space exceeded",
    );
    assert_eq!(refused(client.put(case.key("k"), "v", None).await)?, full);
    assert_eq!(refused(client.lease_grant(60, None).await)?, full);
    let txn = etcd_client::Txn::new().and_then([etcd_client::TxnOp::put(case.key("k"), "v", None)]);
    assert_eq!(refused(client.txn(txn).await)?, full);
    client.delete(case.key("k"), None).await?;
    client.get(case.key("k"), None).await?;
    let status = client.status().await?;
    ensure!(
        status
            .errors()
            .iter()
            .any(|error| error.contains("NOSPACE")),
        "{:?}",
        status.errors()
    );
    client
        .alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options))
        .await?;
    client.put(case.key("k"), "v", None).await?;
    Ok(())
}

/// Whole pages, then their SHA-256.
pub(crate) async fn snapshot(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    client.put(case.key("k"), vec![b'v'; 200_000], None).await?;
    let mut stream = client.snapshot().await?;
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    let mut remaining = None;
    while let Some(part) = stream.message().await? {
        if let Some(before) = remaining {
            ensure!(part.remaining_bytes() <= before, "the rest grows");
        }
        remaining = Some(part.remaining_bytes());
        blobs.push(part.blob().to_vec());
    }
    assert_eq!(remaining, Some(0));
    let whole = blobs.concat();
    assert_eq!(whole.len() % 512, 32);
    let (data, digest) = whole.split_at(whole.len() - 32);
    assert_eq!(Sha256::digest(data).as_slice(), digest);
    ensure!(
        blobs.iter().all(|blob| blob.len() <= 64 * 1024),
        "a chunk of over 64 KiB"
    );
    ensure!(data.len() > 200_000, "the value is in it");
    Ok(())
}

pub(crate) async fn defragment(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    case.fill(&["a"]).await?;
    client.defragment().await?;
    assert_eq!(client.get(case.key("a"), None).await?.kvs().len(), 1);
    Ok(())
}

/// Tools ask a server for its services.
pub(crate) async fn reflection(case: Case) -> Result<()> {
    let list_services = vec![proto::bytes(7, b"*")];
    let method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let answer = raw::exchange(&case.endpoint, method, list_services).await;
    if !crate::differences::REFLECTION.expect(case.server, false, true) {
        ensure!(answer.is_err(), "stock etcd has learned reflection");
        return Ok(());
    }
    // ListServiceResponse 6, service 1, name 1.
    let list = &proto::bytes_of(&answer?[0], 6)[0];
    let names: Vec<String> = proto::bytes_of(list, 1)
        .iter()
        .filter_map(|service| String::from_utf8(proto::bytes_of(service, 1).pop()?).ok())
        .collect();
    for service in ["KV", "Watch", "Lease", "Cluster", "Maintenance"] {
        ensure!(
            names.contains(&format!("etcdserverpb.{service}")),
            "{service} in {names:?}"
        );
    }
    Ok(())
}

pub(crate) async fn grpc_health(case: Case) -> Result<()> {
    let check = |name: &str| {
        let request = if name.is_empty() {
            Vec::new()
        } else {
            proto::bytes(1, name.as_bytes())
        };
        raw::call(&case.endpoint, "/grpc.health.v1.Health/Check", request)
    };
    let Ok(answer) = check("").await? else {
        bail!("the health service is missing")
    };
    // 1 is SERVING.
    assert_eq!(proto::number_of(&answer, 1), 1);
    let Err(unknown) = check("no-such-service").await? else {
        bail!("an unknown service")
    };
    assert_eq!(unknown.code, "NotFound");
    Ok(())
}
