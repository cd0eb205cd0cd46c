//! Flags that change the API's answers.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{
    AlarmAction, AlarmType, Client, CompactionOptions, DeleteOptions, GetOptions, Txn, TxnOp,
    WatchOptions,
};
use synod_testkit::{Cluster, Lab, Refused, Server, Topology, refused, until};

const SOON: Duration = Duration::from_secs(60);

on_both!(Small => max_txn_ops, max_request_bytes, quota, progress_interval, auto_compaction);
on_both!(Small => version_flag, environment_variables);

async fn with_flags(lab: &Lab, server: Server, flags: &[&str]) -> Result<(Cluster, Client)> {
    let topology = flags
        .iter()
        .fold(Topology::of(1), |topology, flag| topology.flag(flag));
    let cluster = Cluster::start(lab, server, topology).await?;
    let client = cluster.client(0).await?;
    Ok((cluster, client))
}

async fn max_txn_ops(lab: &Lab, server: Server) -> Result<()> {
    let (_cluster, mut client) = with_flags(lab, server, &["--max-txn-ops=3"]).await?;
    let gets = |count| Txn::new().and_then(vec![TxnOp::get("k", None); count]);
    client.txn(gets(3)).await?;
    assert_eq!(
        refused(client.txn(gets(4)).await)?,
        Refused::with(
            "InvalidArgument",
            "etcdserver: too many operations in txn request"
        )
    );
    Ok(())
}

async fn max_request_bytes(lab: &Lab, server: Server) -> Result<()> {
    let (_cluster, mut client) = with_flags(lab, server, &["--max-request-bytes=10000"]).await?;
    client.put("k", vec![0; 9_000], None).await?;
    assert_eq!(
        refused(client.put("k", vec![0; 10_000], None).await)?,
        Refused::with("InvalidArgument", "etcdserver: request is too large")
    );
    Ok(())
}

/// A tiny quota: NOSPACE when it is full, and writes again after space was freed.
async fn quota(lab: &Lab, server: Server) -> Result<()> {
    let bytes = 10 * 1024 * 1024;
    let flag = format!("--quota-backend-bytes={bytes}");
    let (_cluster, mut client) = with_flags(lab, server, &[&flag]).await?;
    assert_eq!(client.status().await?.db_size_quota(), bytes);
    let mut refusal = None;
    for number in 0..400 {
        let answer = client
            .put(format!("k{number:03}"), vec![b'v'; 512 * 1024], None)
            .await;
        if let Err(error) = answer {
            refusal = Refused::of(&error);
            break;
        }
    }
    let full = Refused::with(
        "ResourceExhausted",
        "etcdserver: mvcc: database space exceeded",
    );
    assert_eq!(refusal.context("200 MiB went into a quota of 10")?, full);
    let alarms = client
        .alarm(AlarmAction::Get, AlarmType::Nospace, None)
        .await?;
    assert_eq!(alarms.alarms().len(), 1);
    // Reads and deletions are accepted.
    let everything = GetOptions::new().with_prefix().with_count_only();
    ensure!(
        client.get("k", Some(everything)).await?.count() > 0,
        "reads pass"
    );
    let deleted = client
        .delete("k", Some(DeleteOptions::new().with_prefix()))
        .await?;
    let revision = deleted.header().context("a header")?.revision();
    client
        .compact(revision, Some(CompactionOptions::new().with_physical()))
        .await?;
    client.defragment().await?;
    if server.is_etcd() {
        let mut member = etcd_client::AlarmOptions::new();
        member.with_member(alarms.alarms()[0].member_id());
        client
            .alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(member))
            .await?;
    }
    // Ours detects by itself that there is space again.
    until("writes after space was made", SOON, async || {
        client.put("after", "v", None).await?;
        Ok(Some(()))
    })
    .await
}

async fn progress_interval(lab: &Lab, server: Server) -> Result<()> {
    let flags = ["--watch-progress-notify-interval=500ms"];
    let (_cluster, mut client) = with_flags(lab, server, &flags).await?;
    client.put("other", "v", None).await?;
    let notify = Some(WatchOptions::new().with_progress_notify());
    let mut stream = client.watch("k", notify).await?;
    let created = stream.message().await?.context("created")?;
    ensure!(created.created(), "{created:?}");
    let told = tokio::time::timeout(SOON, stream.message())
        .await
        .context("no progress")??;
    let told = told.context("the watch ended")?;
    assert_eq!(
        (told.events().len(), told.watch_id()),
        (0, created.watch_id())
    );
    assert_eq!(told.header().context("a header")?.revision(), 2);
    Ok(())
}

async fn auto_compaction(lab: &Lab, server: Server) -> Result<()> {
    // Keeps a hundred revisions. Both servers check every five minutes or more often, so this only
    // tests that the flags are accepted and that an invalid one is refused.
    let flags = [
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=100",
    ];
    let (_cluster, mut client) = with_flags(lab, server, &flags).await?;
    client.put("k", "v", None).await?;
    let bad = Topology::of(1).flag("--auto-compaction-mode=sometimes");
    let mut cluster = Cluster::prepare(lab, server, bad, "bad").await?;
    let (status, said) = cluster.launch_and_fail(lab, 0).await?;
    ensure!(
        !status.success() && said.contains("sometimes"),
        "{status}: {said}"
    );
    Ok(())
}

async fn version_flag(_lab: &Lab, server: Server) -> Result<()> {
    let output = tokio::process::Command::new(server.program()?)
        .arg("--version")
        .output()
        .await?;
    let text = String::from_utf8(output.stdout)?;
    let Some(version) = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd Version: "))
    else {
        bail!("no version line in {text}");
    };
    ensure!(
        output.status.success() && version.split('.').count() == 3,
        "{text}"
    );
    Ok(())
}

/// Every flag is also an environment variable.
async fn environment_variables(lab: &Lab, server: Server) -> Result<()> {
    let mut topology = Topology::of(1);
    topology
        .envs
        .push(("ETCD_MAX_TXN_OPS".to_owned(), "3".to_owned()));
    topology
        .envs
        .push(("ETCD_MAX_REQUEST_BYTES".to_owned(), "10000".to_owned()));
    let cluster = Cluster::start(lab, server, topology).await?;
    let mut client = cluster.client(0).await?;
    assert_eq!(
        refused(
            client
                .txn(Txn::new().and_then(vec![TxnOp::get("k", None); 4]))
                .await
        )?,
        Refused::with(
            "InvalidArgument",
            "etcdserver: too many operations in txn request"
        )
    );
    assert_eq!(
        refused(client.put("k", vec![0; 15_000], None).await)?,
        Refused::with("InvalidArgument", "etcdserver: request is too large")
    );
    Ok(())
}
