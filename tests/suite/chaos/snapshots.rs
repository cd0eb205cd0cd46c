//! Members that are so far behind that they need a snapshot.

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd_client::{CompactionOptions, GetOptions, PutOptions};
use synod_testkit::{Cluster, Fault, Lab, Server, Topology, until};

use super::same_hashes;

const KEYS: usize = 60;
const VALUE_BYTES: usize = 200_000;

on_all!(Whole => a_member_far_behind);

/// 12 MB of data and a log of a hundred entries. A follower that was away, is killed while it
/// catches up, and has a bad link, ends up with the same data, leases and history.
async fn a_member_far_behind(lab: &Lab, server: Server) -> Result<()> {
    let topology = Topology::of(3)
        .flag("--snapshot-count=100")
        .flag("--snapshot-catchup-entries=10")
        .proxied();
    let mut cluster = Cluster::start(lab, server, topology).await?;
    let behind = cluster.follower().await?;
    let leader = cluster.leader().await?;
    let mut client = cluster.client(leader).await?;
    client.put("gone", "v", None).await?;
    let lease = client.lease_grant(600, None).await?.id();
    cluster.kill(behind)?;
    for round in 0..8 {
        for number in 0..KEYS {
            let value = vec![b'a' + round; VALUE_BYTES / 8];
            let options = PutOptions::new().with_lease(lease);
            client
                .put(format!("k{number}"), value, Some(options))
                .await?;
        }
    }
    client.delete("gone", None).await?;
    let revision = client
        .put("last", "v", None)
        .await?
        .header()
        .map_or(0, |one| one.revision());
    let physical = CompactionOptions::new().with_physical();
    client.compact(revision - 100, Some(physical)).await?;

    // Three attempts: with a slow link, with a cut one, and with a kill in the middle.
    cluster.launch(lab, behind)?;
    let delay = Fault::Delay(Duration::from_millis(100));
    for fault in [delay, Fault::Cut, delay] {
        if let Some(proxy) = &cluster.node(behind).proxy {
            proxy.set(fault);
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    cluster.kill(behind)?;
    cluster.heal();
    cluster.launch_and_wait(lab, behind).await?;
    same_hashes(&cluster).await?;
    let log = cluster.node(behind).process()?.log_text();
    let installed = server.is_etcd() || log.contains("installed a snapshot");
    ensure!(installed, "it caught up without a snapshot");

    // Its own state is complete: data, history and leases.
    let mut client = cluster.client(behind).await?;
    let local = || GetOptions::new().with_serializable();
    let all = client
        .get("k", Some(local().with_prefix().with_count_only()))
        .await?;
    ensure!(all.count() == i64::try_from(KEYS)?, "{} keys", all.count());
    let old = client
        .get("k0", Some(local().with_revision(revision - 100)))
        .await?;
    ensure!(old.kvs().len() == 1, "the past since the compaction");
    ensure!(
        client.get("gone", Some(local())).await?.count() == 0,
        "a deleted key lives"
    );
    until(
        "the lease to be known",
        Duration::from_secs(30),
        async || {
            let left = client.lease_time_to_live(lease, None).await?;
            ensure!((500..=600).contains(&left.ttl()), "{left:?}");
            Ok(Some(()))
        },
    )
    .await
}
