//! Members that are disconnected from each other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{ConnectOptions, GetOptions};
use synod_testkit::{Cluster, Fault, Lab, Refused, Server, Topology, connect_with, until};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);

on_all!(Whole => minority_leader, slow_and_half_open_links, watches_need_a_leader);

/// The leader alone on one side. It must refuse writes and linearizable reads, and the others
/// continue.
async fn minority_leader(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3).proxied()).await?;
    let old = cluster.leader().await?;
    cluster.client(old).await?.put("k", "before", None).await?;
    let deposed = cluster.status(old).await?.leader();
    cluster.isolate(old)?;
    // Until the streams are really cut, the old leader still has its majority.
    until("the majority to elect another leader", SOON, async || {
        let leader = cluster.status((old + 1) % 3).await?.leader();
        Ok((leader != 0 && leader != deposed).then_some(()))
    })
    .await?;
    let mut majority = cluster.client((old + 1) % 3).await?;
    until("the majority to continue", SOON, async || {
        timeout(Duration::from_secs(2), majority.put("k", "after", None)).await??;
        Ok(Some(()))
    })
    .await?;
    let mut minority = cluster.client(old).await?;
    let short = Duration::from_secs(3);
    let read = timeout(short, minority.get("k", None)).await;
    ensure!(!matches!(read, Ok(Ok(_))), "the minority read {read:?}");
    let write = timeout(short, minority.put("k", "lost", None)).await;
    ensure!(!matches!(write, Ok(Ok(_))), "the minority wrote {write:?}");
    // Serializable reads may return stale data.
    let local = GetOptions::new().with_serializable();
    let read = minority.get("k", Some(local)).await?;
    assert_eq!(read.kvs()[0].value_str()?, "before");
    cluster.heal();
    until("the old leader to learn what it missed", SOON, async || {
        let read = timeout(Duration::from_secs(2), minority.get("k", None)).await??;
        ensure!(
            read.kvs()[0].value_str()? != "before",
            "it still returns stale data"
        );
        Ok(Some(()))
    })
    .await?;
    super::same_hashes(&cluster).await
}

async fn slow_and_half_open_links(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3).proxied()).await?;
    let leader = cluster.leader().await?;
    let follower = cluster.follower().await?;
    let mut client = cluster.client(leader).await?;
    let mut number = 0;
    for fault in [
        Fault::Delay(Duration::from_millis(20)),
        Fault::Drop,
        Fault::HalfOpen,
        Fault::Stall,
    ] {
        proxy(&mut cluster, follower)?.set(fault);
        // The others are a majority, so writes continue eventually.
        for _ in 0..20 {
            number += 1;
            until("a write beside a bad link", SOON, async || {
                let put = client.put("k", number.to_string(), None);
                timeout(Duration::from_secs(5), put).await??;
                Ok(Some(()))
            })
            .await
            .with_context(|| format!("{fault:?}"))?;
        }
        proxy(&mut cluster, follower)?.heal();
        super::same_hashes(&cluster)
            .await
            .with_context(|| format!("after {fault:?}"))?;
    }
    Ok(())
}

fn proxy(cluster: &mut Cluster, index: usize) -> Result<&synod_testkit::Proxy> {
    cluster
        .node(index)
        .proxy
        .as_ref()
        .context("a proxied cluster")
}

/// With `hasleader`, a watch ends when its member has lost the leader, and can't be opened.
async fn watches_need_a_leader(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    let needs_leader = || ConnectOptions::new().with_require_leader(true);
    let endpoint = cluster.endpoint(0);
    let mut client = connect_with(&[endpoint], needs_leader()).await?;
    let mut stream = client.watch("k", None).await?;
    ensure!(
        stream.message().await?.context("created")?.created(),
        "it is created"
    );
    cluster.kill(1)?;
    cluster.kill(2)?;
    let ended = timeout(SOON, stream.message())
        .await
        .context("the watch stays open")?;
    let no_leader = Refused::with("Unavailable", "etcdserver: no leader");
    let Err(error) = ended else {
        anyhow::bail!("a message instead of an end: {ended:?}")
    };
    assert_eq!(Refused::of(&error), Some(no_leader.clone()));
    let again = timeout(SOON, async {
        let mut stream = client.watch("k", None).await?;
        stream.message().await
    });
    let Err(error) = again.await? else {
        anyhow::bail!("a watch without a leader")
    };
    assert_eq!(Refused::of(&error), Some(no_leader));
    Ok(())
}
