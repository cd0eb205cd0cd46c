//! `etcdctl lock` and `elect`, which use etcd's client library, beside callers of the services:
//! they exclude each other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::LockOptions;
use synod_runtime::task;
use synod_testkit::{Cluster, Lab, Server, Topology, until};

const SOON: Duration = Duration::from_secs(60);

on_all!(Small => locks_of_etcdctl_and_of_the_service, elections_of_etcdctl_and_of_the_service);

async fn locks_of_etcdctl_and_of_the_service(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let etcdctl = cluster.etcdctl(0)?;
    assert_eq!(etcdctl.ok(&["lock", "l", "echo", "held"]).await?, "held\n");
    let first = etcdctl.session(lab, "lock-first", &["lock", "--ttl=2", "l"])?;
    let key = first
        .prints(|text| text.starts_with("l/") && text.ends_with('\n'))
        .await?;
    let mut client = cluster.client(0).await?;
    let lease = client.lease_grant(600, None).await?.id();
    let mut caller = client.clone();
    let options = LockOptions::new().with_lease(lease);
    let waiting = task::spawn("call", async move { caller.lock("l", Some(options)).await });
    queued(&cluster, "l/", 2).await?;
    let last = etcdctl.session(lab, "lock-last", &["lock", "--ttl=2", "l"])?;
    queued(&cluster, "l/", 3).await?;
    ensure!(
        !waiting.is_finished() && last.text().is_empty(),
        "etcdctl holds the lock"
    );
    // It is killed, so that its lease has to run out.
    drop(first);
    let held = tokio::time::timeout(SOON, waiting)
        .await
        .context("not in time")???;
    assert_eq!(held.key(), format!("l/{lease:x}").as_bytes());
    ensure!(
        client.get(key.trim(), None).await?.kvs().is_empty(),
        "two holders"
    );
    ensure!(last.text().is_empty(), "two holders");
    client.unlock(held.key()).await?;
    last.prints(|text| text.starts_with("l/")).await?;
    Ok(())
}

async fn elections_of_etcdctl_and_of_the_service(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let etcdctl = cluster.etcdctl(0)?;
    let mut client = cluster.client(0).await?;
    let lease = client.lease_grant(600, None).await?.id();
    let elected = client.campaign("e", "ours", lease).await?;
    let listener = etcdctl.session(lab, "elect-listen", &["elect", "--listen", "e"])?;
    listener.prints(|text| text.contains("ours")).await?;
    let candidate = etcdctl.session(lab, "elect", &["elect", "e", "theirs"])?;
    queued(&cluster, "e/", 2).await?;
    ensure!(candidate.text().is_empty(), "two leaders");
    let leader = elected.leader().context("a leader")?.clone();
    let options = etcd_client::ResignOptions::new().with_leader(leader);
    client.resign(Some(options)).await?;
    candidate.prints(|text| text.contains("theirs")).await?;
    listener.prints(|text| text.contains("theirs")).await?;
    let kv = client.leader("e").await?;
    assert_eq!(kv.kv().context("a key")?.value(), b"theirs");
    Ok(())
}

async fn queued(cluster: &Cluster, prefix: &str, count: usize) -> Result<()> {
    let mut client = cluster.client(0).await?;
    until("the queue to change", SOON, async || {
        let all = etcd_client::GetOptions::new().with_prefix();
        let got = client.get(prefix, Some(all)).await?;
        Ok((got.kvs().len() == count).then_some(()))
    })
    .await
}
