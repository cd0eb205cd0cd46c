//! A leader whose process ends is replaced long before the election timeout, a silent one after it.

use std::time::Duration;

use anyhow::{Result, ensure};
use synod_testkit::{Cluster, Lab, Server, Share, Topology, outage, run};

const ROUNDS: usize = 5;
/// A member that was restarted helps nobody to lead for an election timeout, which nothing shows
/// from outside.
const REST: Duration = Duration::from_millis(1_500);
/// The least that followers wait for a silent leader: an election timeout since its last heartbeat.
const SILENCE: Duration = Duration::from_millis(900);

#[test]
fn an_ended_leader_is_replaced_at_once_raft() -> Result<()> {
    replaced(Server::SYNOD, "--linearizable-read=read-index")
}

#[test]
fn an_ended_leader_is_replaced_at_once_multi_paxos() -> Result<()> {
    replaced(Server::PAXOS, "--linearizable-read=read-index")
}

#[test]
fn an_ended_leader_is_replaced_after_its_lease_raft() -> Result<()> {
    replaced(Server::SYNOD, "--linearizable-read=lease")
}

#[test]
fn an_ended_leader_is_replaced_after_its_lease_multi_paxos() -> Result<()> {
    replaced(Server::PAXOS, "--linearizable-read=lease")
}

fn replaced(server: Server, flag: &str) -> Result<()> {
    run(Share::Whole, async |lab: &Lab| {
        let mut cluster = Cluster::start(lab, server, Topology::of(3).flag(flag)).await?;
        let mut outages = Vec::new();
        for _ in 0..ROUNDS {
            let leader = cluster.leader().await?;
            let client = cluster.client((leader + 1) % 3).await?;
            outages.push(outage(client, async { cluster.kill(leader) }).await?);
            cluster.launch_and_wait(lab, leader).await?;
            tokio::time::sleep(REST).await;
        }
        outages.sort();
        crate::support::note(&format!("killed: {outages:?}"));
        // On a busy machine one of them may take its time.
        ensure!(outages[ROUNDS / 2] < SILENCE, "{outages:?}");

        let leader = cluster.leader().await?;
        let client = cluster.client((leader + 1) % 3).await?;
        let stop = async { cluster.node(leader).process()?.pause() };
        let silent = outage(client, stop).await?;
        cluster.node(leader).process()?.resume()?;
        ensure!(
            silent >= SILENCE,
            "a silent leader was given up after {silent:?}"
        );
        cluster.ready().await
    })
}
