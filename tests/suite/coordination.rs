//! Coordination under faults: pods and members of consensus are killed and stopped while clients
//! with ZooKeeper's protocol work. `SYNOD_CHAOS_SECONDS` sets the duration, `SYNOD_SEED` the
//! faults.

mod locker;
mod nemesis;
mod registers;
mod session;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use synod_jute::Request;
use synod_testkit::zookeeper::ZkClient;
use synod_testkit::{Cluster, PodOptions, Pods, Server, Share, Topology, run_within, until};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::chaos::{seconds, seed};
use registers::Registers;

/// Clients that write registers, and as many that take a lock.
const CLIENTS: u32 = 5;

#[test]
fn faults_on_raft() -> Result<()> {
    faults(Server::SYNOD, seconds().unwrap_or(40))
}

#[test]
fn faults_on_multi_paxos() -> Result<()> {
    faults(Server::PAXOS, seconds().unwrap_or(25))
}

#[test]
fn faults_on_etcd() -> Result<()> {
    faults(Server::Etcd, seconds().unwrap_or(25))
}

/// Registers are linearizable, and no two clients hold the lock.
fn faults(server: Server, seconds: u64) -> Result<()> {
    let load = Duration::from_secs(seconds);
    run_within(Share::Whole, load + Duration::from_secs(240), async |lab| {
        let seed = seed()?;
        let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
        let options = PodOptions {
            pods: 3,
            ..PodOptions::default()
        };
        let mut pods = Pods::start(lab, &cluster.endpoints(), options).await?;
        registers::create(&pods.address(0)).await?;
        let stop = Rc::new(Cell::new(false));
        let registers = Rc::new(Registers::new(Instant::now()));
        let holders = Rc::new(locker::Holders::default());
        let clients = LocalSet::new();
        let mut running = Vec::new();
        for number in 0..CLIENTS {
            let random = ChaCha8Rng::seed_from_u64(seed ^ u64::from(number + 1));
            let addresses = pods.addresses();
            let session = session::Session::new(addresses.clone(), random.clone());
            let (registers, stop1) = (Rc::clone(&registers), Rc::clone(&stop));
            running.push(clients.spawn_local(async move {
                registers::run(session, number, &registers, &stop1).await
            }));
            let session = session::Session::new(addresses, random);
            let (holders, stop2) = (Rc::clone(&holders), Rc::clone(&stop));
            running.push(
                clients.spawn_local(async move { locker::run(session, &holders, &stop2).await }),
            );
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let storm = nemesis::run(lab, &mut cluster, &mut pods, &mut random, load);
        let report = clients.run_until(Box::pin(storm)).await?;
        stop.set(true);
        clients.await;
        for client in running {
            client.await??;
        }
        let records = registers.records();
        let held = holders.check()?;
        let gap = registers.longest_gap();
        crate::support::note(&format!(
            "{report}, {} calls, the lock was held {held} times, longest gap {gap:?}",
            records.len()
        ));
        registers::check(&records)?;
        ensure!(held > 0, "nobody held the lock");
        same_trees(&pods).await
    })
}

/// Waits until all pods have the same nodes. One that was stopped just before may refuse clients
/// at first.
async fn same_trees(pods: &Pods) -> Result<()> {
    let within = Duration::from_secs(60);
    until("all pods to have the same nodes", within, async || {
        let mut trees = Vec::new();
        for address in pods.addresses() {
            let mut client = ZkClient::open(&address).await?;
            session::sync(&mut client).await?;
            trees.push(session::tree(&mut client, "/").await?);
            let (_, _closed) = client.call(&Request::CloseSession).await?;
        }
        // The connections' own sessions have no nodes.
        let is_everywhere = |line: &&String| trees.iter().all(|tree| tree.contains(line));
        let differ: Vec<&String> = trees
            .iter()
            .flatten()
            .filter(|line| !is_everywhere(line))
            .collect();
        ensure!(differ.is_empty(), "the pods differ: {differ:#?}");
        Ok(Some(()))
    })
    .await
}
