//! Processes that are killed, stopped and disconnected under load. Acknowledged writes stay, and no
//! client reads stale data. `SYNOD_CHAOS_SECONDS` sets the duration, `SYNOD_SEED` the faults.

mod dead_leader;
mod locks;
mod nemesis;
mod partition;
mod snapshots;
mod stopped_leader;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use synod_testkit::{
    Cluster, Lab, Server, Share, Topology, check_linearizable, read_events, run_within, until,
};

pub(crate) use workload::Workload;

/// Time limit of the linearizability check for one key.
const SEARCH_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn kill_nine_etcd() -> Result<()> {
    // This only tests the harness, so a short run is enough.
    kill_nine(Server::Etcd, seconds().unwrap_or(15))
}

#[test]
fn kill_nine_raft() -> Result<()> {
    kill_nine(Server::SYNOD, seconds().unwrap_or(60))
}

#[test]
fn kill_nine_multi_paxos() -> Result<()> {
    kill_nine(Server::PAXOS, seconds().unwrap_or(60))
}

fn kill_nine(server: Server, seconds: u64) -> Result<()> {
    let load = Duration::from_secs(seconds);
    run_within(Share::Whole, load + Duration::from_secs(240), async |lab| {
        let seed = seed()?;
        // A short log, so that returning members need snapshots too.
        let topology = Topology::of(3)
            .flag("--snapshot-count=500")
            .flag("--snapshot-catchup-entries=100");
        let mut cluster = Cluster::start(lab, server, topology).await?;
        let workload = Workload::start(&cluster, seed);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let storm = nemesis::kill(lab, &mut cluster, &mut random, load);
        let report = workload.beside(Box::pin(storm)).await;
        let records = workload.end().await;
        let report = report?;
        crate::support::note(&format!("seed {seed}: {report}, {} calls", records.len()));
        settled(lab, &mut cluster, records).await
    })
}

/// Checks the state after the faults: the members agree with each other and with the clients'
/// records.
pub(crate) async fn settled(
    lab: &Lab,
    cluster: &mut Cluster,
    mut records: Vec<synod_testkit::Record>,
) -> Result<()> {
    cluster.ready().await?;
    let last = workload::last_write(cluster, &mut records).await?;
    same_hashes(cluster).await?;
    let mut logs = Vec::new();
    for index in 0..cluster.nodes().len() {
        if cluster.nodes()[index].is_up() {
            let mut client = cluster.client(index).await?;
            logs.push(read_events(&mut client, workload::PREFIX, last).await?);
        }
    }
    for log in &logs[1..] {
        ensure!(log == &logs[0], "the members' histories differ");
    }
    let done = records
        .iter()
        .filter(|record| record.done().is_some())
        .count();
    ensure!(
        done * 5 > records.len(),
        "only {done} of {} calls were answered",
        records.len()
    );
    let evidence = evidence()?;
    let told = logs[0].check(&records);
    let linear = check_linearizable(&records, SEARCH_WITHIN, &evidence);
    told.with_context(|| format!("in {}", lab.folder().display()))?;
    let steps = linear?;
    crate::support::note(&format!(
        "{} events and {steps} steps checked",
        logs[0].events.len()
    ));
    Ok(())
}

/// The folder for histories that are wrong. It outlives the test.
pub(crate) fn evidence() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("synod-evidence");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Waits until all running members have the same HashKV at the same revision.
pub(crate) async fn same_hashes(cluster: &Cluster) -> Result<()> {
    until(
        "all members to have the same hash",
        Duration::from_secs(90),
        async || {
            let mut hashes = Vec::new();
            for index in (0..cluster.nodes().len()).filter(|index| cluster.nodes()[*index].is_up())
            {
                let answer = cluster.client(index).await?.hash_kv(0).await?;
                hashes.push((
                    answer.hash_revision(),
                    answer.hash(),
                    answer.compact_version(),
                ));
            }
            let same = hashes.iter().all(|hash| *hash == hashes[0]);
            ensure!(same, "hashes {hashes:?}");
            Ok(Some(()))
        },
    )
    .await
}

pub(crate) fn seconds() -> Option<u64> {
    std::env::var_os("SYNOD_CHAOS_SECONDS")?
        .to_str()?
        .parse()
        .ok()
}

/// `SYNOD_SEED`, or a random seed. It is printed, so that the faults of a failed run can be
/// repeated.
pub(crate) fn seed() -> Result<u64> {
    let seed = match std::env::var_os("SYNOD_SEED") {
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse().ok())
            .context("SYNOD_SEED")?,
        None => rand::random(),
    };
    crate::support::note(&format!("SYNOD_SEED={seed}"));
    Ok(seed)
}
