//! Members that are added, promoted, removed, restarted and upgraded, with `etcdctl`.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{GetOptions, PutOptions};
use synod_testkit::{Cluster, Etcdctl, Lab, Refused, Server, Topology, refused, until};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::chaos::{Workload, same_hashes, seed, settled};
use crate::differences::{CHANGE_AFTER_CHANGE, LEASE_AFTER_FAIL_OVER, SIGTERM_STATUS};

const SOON: Duration = Duration::from_secs(60);

on_all!(Whole => learner_to_voter, removed_member, strict_reconfiguration, restart_of_all);
on_all!(Whole => rolling_restart, lease_across_leaders, changes_at_once);

/// The id printed by `etcdctl member add`, padded to 16 digits.
fn added_id(said: &str) -> Result<String> {
    let id = said
        .strip_prefix("Member ")
        .and_then(|rest| rest.split_whitespace().next());
    Ok(id.with_context(|| format!("no id in {said}"))?.to_owned())
}

/// Runs a membership change, which is refused until the members have been connected for some
/// seconds.
async fn when_healthy(etcdctl: &Etcdctl, words: &[&str]) -> Result<String> {
    until("the cluster to count as healthy", SOON, async || {
        let output = etcdctl.run(words).await?;
        if output.stderr.contains("etcdserver: unhealthy cluster") {
            return Ok(None);
        }
        ensure!(output.success, "{}", output.stderr);
        Ok(Some(output.stdout))
    })
    .await
}

async fn learner_to_voter(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    let etcdctl = Etcdctl::new(&cluster.endpoints())?;
    for number in 0..50 {
        cluster
            .client(0)
            .await?
            .put(format!("k{number}"), "v", None)
            .await?;
    }
    let new = cluster.add_node(lab, "n4", "c1").await?;
    let url = cluster.nodes()[new].peer_url();
    let peer_urls = format!("--peer-urls={url}");
    let said = when_healthy(&etcdctl, &["member", "add", "n4", "--learner", &peer_urls]).await?;
    let id = added_id(&said)?;
    ensure!(
        said.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""),
        "{said}"
    );
    let listed = etcdctl.ok(&["member", "list"]).await?;
    ensure!(
        listed.contains(&format!("{id}, unstarted, , {url}, , true")),
        "{listed}"
    );
    let early = etcdctl.fails(&["member", "promote", &id]).await?;
    let not_in_sync = "can only promote a learner member which is in sync with leader";
    ensure!(
        early == format!("Error: etcdserver: {not_in_sync}"),
        "{early}"
    );

    cluster.launch(lab, new)?;
    cluster.node_answers(new).await?;
    // A learner serves its own state, and nothing that needs a quorum.
    let learner = cluster.etcdctl(new)?;
    until("the learner to catch up", SOON, async || {
        let read = learner.ok(&["get", "k49", "--consistency=s"]).await?;
        ensure!(read == "k49\nv\n", "{read:?}");
        Ok(Some(()))
    })
    .await?;
    let refused = learner.fails(&["get", "k49"]).await?;
    ensure!(
        refused == "Error: etcdserver: rpc not supported for learner",
        "{refused}"
    );
    until("the learner to be promoted", SOON, async || {
        let said = etcdctl.ok(&["member", "promote", &id]).await?;
        ensure!(
            said.starts_with(&format!("Member {id:>16} promoted in cluster ")),
            "{said}"
        );
        Ok(Some(()))
    })
    .await?;
    cluster.node_ready(new).await?;
    let listed = etcdctl.ok(&["member", "list"]).await?;
    let client = cluster.endpoint(new);
    ensure!(
        listed.contains(&format!("{id}, started, n4, {url}, {client}, false")),
        "{listed}"
    );

    // It counts: two of four are not a majority, three are.
    let leader = cluster.leader().await?;
    let others: Vec<usize> = (0..4)
        .filter(|index| *index != new && *index != leader)
        .collect();
    cluster.kill(others[0])?;
    let mut writer = cluster.client(new).await?;
    until("three of four to write", SOON, async || {
        writer.put("three", "v", None).await?;
        Ok(Some(()))
    })
    .await?;
    cluster.kill(others[1])?;
    let alone = timeout(Duration::from_secs(3), writer.put("two", "v", None)).await;
    ensure!(
        !matches!(alone, Ok(Ok(_))),
        "two of four members wrote: {alone:?}"
    );
    for index in others {
        cluster.launch(lab, index)?;
    }
    cluster.ready().await?;
    same_hashes(&cluster).await
}

async fn removed_member(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    // The leader is removed, so the others must elect a new one.
    let leader = cluster.leader().await?;
    let id = cluster
        .status(leader)
        .await?
        .header()
        .context("a header")?
        .member_id();
    let id = format!("{id:x}");
    let other = (leader + 1) % 3;
    let etcdctl = cluster.etcdctl(other)?;
    etcdctl.ok(&["put", "before", "v"]).await?;
    let said = when_healthy(&etcdctl, &["member", "remove", &id]).await?;
    ensure!(
        said.starts_with(&format!("Member {id:>16} removed from cluster ")),
        "{said}"
    );
    // It detects its removal and stops by itself.
    cluster.node(leader).process()?.ended(SOON).await?;
    cluster.kill(leader)?;
    cluster.ready().await?;
    etcdctl.ok(&["put", "after", "v"]).await?;
    let listed = etcdctl.ok(&["member", "list"]).await?;
    ensure!(
        listed.lines().count() == 2 && !listed.contains(&id),
        "{listed}"
    );
    // It can't rejoin with its old data.
    let (_, said) = cluster.launch_and_fail(lab, leader).await?;
    ensure!(said.contains("removed"), "{said}");
    same_hashes(&cluster).await
}

/// Concurrent changes are made one after the other, and each is answered. Updates of URLs need no
/// agreement of the voters first, so this test doesn't use them.
async fn changes_at_once(lab: &Lab, server: Server) -> Result<()> {
    const REMOVALS: usize = 12;
    let cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    let etcdctl = Etcdctl::new(&cluster.endpoints())?;
    let new = [
        "member",
        "add",
        "n4",
        "--learner",
        "--peer-urls=http://127.0.0.1:1",
    ];
    let id = u64::from_str_radix(&added_id(&when_healthy(&etcdctl, &new).await?)?, 16)?;
    let mut removals = JoinSet::new();
    for number in 0..REMOVALS {
        let mut client = cluster.client(number % 3).await?;
        removals.spawn(async move { timeout(SOON / 4, client.member_remove(id)).await });
    }
    let not_found = Refused::with("NotFound", "etcdserver: member not found");
    let mut removed = 0;
    while let Some(ended) = removals.join_next().await {
        match ended? {
            Ok(Ok(_)) => removed += 1,
            Ok(refusal) => {
                let said = refused(refusal)?;
                ensure!(said == not_found, "{said:?}");
            }
            Err(silence) => CHANGE_AFTER_CHANGE.expect(server, Ok(()), Err(silence))?,
        }
    }
    ensure!(removed == 1, "{removed} removals of one member");
    Ok(())
}

/// While a member is down, changes that could lose the majority are refused.
async fn strict_reconfiguration(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    let follower = cluster.follower().await?;
    let leader = cluster.leader().await?;
    let third = 3 - leader - follower;
    let id = cluster
        .status(third)
        .await?
        .header()
        .context("a header")?
        .member_id();
    cluster.kill(follower)?;
    let etcdctl = cluster.etcdctl(leader)?;
    let add = ["member", "add", "n4", "--peer-urls=http://127.0.0.1:1"];
    let said = etcdctl.fails(&add).await?;
    ensure!(said == "Error: etcdserver: unhealthy cluster", "{said}");
    until(
        "the removal of a healthy member to be refused",
        SOON,
        async || {
            let said = etcdctl
                .fails(&["member", "remove", &format!("{id:x}")])
                .await?;
            ensure!(said == "Error: etcdserver: unhealthy cluster", "{said}");
            Ok(Some(()))
        },
    )
    .await?;
    etcdctl.ok(&["put", "k", "v"]).await?;
    Ok(())
}

async fn restart_of_all(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    let mut client = cluster.client(0).await?;
    let lease = client.lease_grant(600, None).await?.id();
    for number in 0..200 {
        let options = PutOptions::new().with_lease(if number % 2 == 0 { lease } else { 0 });
        client
            .put(format!("k{number:03}"), number.to_string(), Some(options))
            .await?;
    }
    client.delete("k007", None).await?;
    client.compact(100, None).await?;
    let everything = || Some(GetOptions::new().with_all_keys());
    let before = client.get("", everything()).await?;
    let status = cluster.status(0).await?;
    for index in 0..3 {
        let status = cluster.stop(index).await?;
        let clean = SIGTERM_STATUS.expect(server, status.signal() == Some(15), status.success());
        ensure!(clean, "{status}");
    }
    for index in 0..3 {
        cluster.launch(lab, index)?;
    }
    cluster.ready().await?;
    let mut client = cluster.client(1).await?;
    let after = client.get("", everything()).await?;
    assert_eq!(format!("{:?}", before.kvs()), format!("{:?}", after.kvs()));
    let revision = |header: Option<&etcd_client::ResponseHeader>| header.map(|one| one.revision());
    assert_eq!(revision(before.header()), revision(after.header()));
    let again = cluster.status(0).await?;
    let ids = |status: &etcd_client::StatusResponse| {
        status
            .header()
            .map(|header| (header.cluster_id(), header.member_id()))
    };
    assert_eq!(ids(&status), ids(&again));
    let keys = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(lease, Some(keys)).await?;
    ensure!(
        (500..=600).contains(&left.ttl()) && left.keys().len() == 100,
        "{left:?}"
    );
    same_hashes(&cluster).await
}

/// An upgrade: every member is stopped by SIGTERM and restarted while clients write.
async fn rolling_restart(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    let workload = Workload::start(&cluster, seed()?);
    let roll = async {
        for index in 0..3 {
            sleep(Duration::from_secs(1)).await;
            cluster.stop(index).await?;
            cluster.launch_and_wait(lab, index).await?;
        }
        anyhow::Ok(())
    };
    let rolled = workload.beside(Box::pin(roll)).await;
    let records = workload.end().await;
    rolled?;
    settled(lab, &mut cluster, records).await
}

/// The remaining time of a lease after a change of leader.
async fn lease_across_leaders(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    let leader = cluster.leader().await?;
    let other = (leader + 1) % 3;
    let mut client = cluster.client(other).await?;
    let began = Instant::now();
    let lease = client.lease_grant(12, None).await?.id();
    client
        .put("leased", "v", Some(PutOptions::new().with_lease(lease)))
        .await?;
    // The remaining time is recorded once the owner has been silent for two fifths of the lease.
    until("half of the lease to pass", SOON, async || {
        let left = client.lease_time_to_live(lease, None).await?.ttl();
        Ok((left <= 5).then_some(()))
    })
    .await?;
    cluster.kill(leader)?;
    let left = until(
        "the new leader to report the remaining time",
        SOON,
        async || {
            let left = client.lease_time_to_live(lease, None).await?;
            Ok((left.ttl() >= 0).then(|| left.ttl()))
        },
    )
    .await?;
    ensure!(left > 0, "the lease was lost with the leader");
    if LEASE_AFTER_FAIL_OVER.expect(server, true, false) {
        ensure!(
            left >= 10,
            "stock etcd grants the whole time again, but left {left} s"
        );
        return Ok(());
    }
    let passed = i64::try_from(began.elapsed().as_secs())?;
    // A checkpoint may be some seconds old. No granted time may be lost.
    ensure!(
        left <= 9 && left >= 11 - passed,
        "{left} s left after {passed} s of 12"
    );
    until("the key to expire", SOON, async || {
        Ok(client
            .get("leased", None)
            .await?
            .kvs()
            .is_empty()
            .then_some(()))
    })
    .await?;
    ensure!(
        began.elapsed() >= Duration::from_secs(12),
        "it expired too early"
    );
    Ok(())
}
