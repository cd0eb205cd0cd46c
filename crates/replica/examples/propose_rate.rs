//! Measures proposals per second through 1 or 3 replicas in this process, with real logs and real
//! streams but without a service: `cargo run --release -p synod-replica --example propose_rate
//! [nodes [proposers [seconds [leader|follower [raft|multi-paxos]]]]]`.
//!
//! Every proposer has one proposal of 128 bytes in flight. CPU time is listed by groups of threads,
//! which shows where it is spent.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "it prints its result, may panic, and shares the tests' harness"
)]

#[path = "../tests/cluster/harness.rs"]
mod harness;
#[path = "../tests/cluster/toy.rs"]
mod toy;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::{Cluster, soon};
use hdrhistogram::Histogram;
use synod_consensus_core::{Algorithm, ReadMode};
use synod_replica::ReplicaHandle;
use synod_runtime::{clock, task};
use toy::Output;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        arguments
            .next()
            .map_or(default, |text| text.parse().unwrap())
    };
    let (nodes, proposers, seconds) = (number(3), number(64), number(5));
    let at_follower = arguments.next().is_some_and(|text| text == "follower");
    let algorithm = arguments
        .next()
        .map_or(Algorithm::Raft, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(algorithm, nodes, proposers, seconds, at_follower));
}

async fn run(algorithm: Algorithm, nodes: u64, proposers: u64, seconds: u64, at_follower: bool) {
    let mut cluster = Cluster::start(algorithm, nodes);
    let leader = cluster.leader().await;
    let at = if at_follower {
        cluster.follower().await
    } else {
        leader
    };
    let handle = cluster.handle(at);
    measure("warm-up", 1, proposers, &handle, propose).await;
    measure("propose", seconds, proposers, &handle, propose).await;
    measure(
        "read (index)",
        seconds.min(2),
        proposers,
        &handle,
        read_index,
    )
    .await;
    measure(
        "read (lease)",
        seconds.min(2),
        proposers,
        &handle,
        read_lease,
    )
    .await;
    cluster.converge().await;
    println!("stages on the leader, seconds:");
    let text = cluster.nodes[&leader].registry.text().unwrap();
    for stage in ["proposed", "persisted", "committed", "applied"] {
        let value = |kind: &str| {
            let name = format!("synod_replica_stage_seconds_{kind}{{stage=\"{stage}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.map_or(0.0, |value| value.parse::<f64>().unwrap())
        };
        println!(
            "  {stage}: {:.6} mean of {}",
            value("sum") / value("count"),
            value("count")
        );
    }
    cluster.stop_all().await;
}

async fn propose(handle: ReplicaHandle<Output>, payload: Bytes) {
    handle.propose(payload, soon()).await.unwrap();
}

async fn read_index(handle: ReplicaHandle<Output>, _: Bytes) {
    handle.read(ReadMode::Index, soon()).await.unwrap();
}

async fn read_lease(handle: ReplicaHandle<Output>, _: Bytes) {
    handle.read(ReadMode::Lease, soon()).await.unwrap();
}

async fn measure<F, Work>(
    name: &str,
    seconds: u64,
    tasks: u64,
    handle: &ReplicaHandle<Output>,
    work: F,
) where
    F: Fn(ReplicaHandle<Output>, Bytes) -> Work + Copy + Send + 'static,
    Work: Future<Output = ()> + Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let before = cpu();
    let begin = clock::now();
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (handle, stop) = (handle.clone(), Arc::clone(&stop));
            task::spawn("measure", async move {
                let payload = Bytes::from(vec![b'x'; 128]);
                let mut latency = Histogram::<u64>::new(3).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let begin = clock::now();
                    work(handle.clone(), payload.clone()).await;
                    let took = u64::try_from(begin.elapsed().as_micros()).unwrap();
                    latency.record(took).unwrap();
                    // A read under a lease never waits, so yield to let other tasks run.
                    tokio::task::consume_budget().await;
                }
                latency
            })
        })
        .collect();
    clock::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut latency = Histogram::<u64>::new(3).unwrap();
    for task in running {
        latency.add(task.await.unwrap()).unwrap();
    }
    let rate = latency.len() as f64 / begin.elapsed().as_secs_f64();
    println!(
        "{name}: {tasks} at a time: {rate:.0}/s, p50 {} us, p99 {} us",
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.99),
    );
    let per_operation = |ticks: u64| ticks as f64 * 10_000.0 / latency.len() as f64;
    for (thread, ticks) in cpu() {
        let used = ticks - before.get(&thread).copied().unwrap_or_default();
        if used > 0 {
            println!("  {thread}: {:.2} us CPU each", per_operation(used));
        }
    }
}

/// CPU time of all threads, by name, in clock ticks (10 ms).
fn cpu() -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").unwrap() {
        let Ok(stat) = fs::read_to_string(entry.unwrap().path().join("stat")) else {
            continue;
        };
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        *all.entry(name.to_owned()).or_default() += ticks;
    }
    all
}
