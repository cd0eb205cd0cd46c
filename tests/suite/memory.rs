//! Memory stays within its limits, regardless of clients' requests.

use std::fs;

use anyhow::{Context, Result, ensure};
use etcd_client::{DeleteOptions, GetOptions, WatchOptions};
use synod_testkit::{Cluster, Lab, Server, Share, Topology};

const MIB: usize = 1 << 20;

/// The peak of a process's resident memory since the last reset, in bytes. Source: proc(5),
/// `VmHWM`.
fn peak_bytes(pid: u32) -> Result<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no VmHWM")?.parse::<usize>()? * 1024)
}

/// Resets that peak. Source: proc(5), `clear_refs`.
fn reset_peak(pid: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// With huge pages a member would occupy far more memory than it uses. See proc(5), `THP_enabled`.
#[test]
fn a_member_uses_no_huge_pages() -> Result<()> {
    synod_testkit::run(Share::Small, async |lab| {
        let mut cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let pid = cluster.node(0).process()?.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let enabled = status
            .lines()
            .find_map(|line| line.strip_prefix("THP_enabled:"));
        ensure!(
            enabled.map(str::trim) == Some("0"),
            "THP_enabled: {enabled:?}"
        );
        Ok(())
    })
}

#[test]
fn sixteen_concurrent_large_ranges_stay_within_the_budget() -> Result<()> {
    synod_testkit::run(Share::Whole, large_ranges)
}

async fn large_ranges(lab: &Lab) -> Result<()> {
    let budget = 64 * MIB;
    let flag = format!("--response-budget-bytes={budget}");
    let mut cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1).flag(&flag)).await?;
    let mut client = cluster.client(0).await?;
    for number in 0..60 {
        let key = format!("k{number:02}");
        client.put(key, vec![7_u8; MIB], None).await?;
    }
    let pid = cluster.node(0).process()?.pid();
    reset_peak(pid)?;
    let before = peak_bytes(pid)?;
    let mut ranges = Vec::new();
    for _ in 0..16 {
        let client = cluster.client(0).await?;
        let mut client = client.kv_client().max_decoding_message_size(usize::MAX);
        ranges.push(async move {
            let options = GetOptions::new().with_prefix().with_limit(20);
            let answer = client.get("k", Some(options)).await;
            answer.map(|answer| answer.kvs().len())
        });
    }
    let (mut done, mut refused) = (0, 0);
    for answer in at_once(ranges).await {
        match answer {
            Ok(20) => done += 1,
            Ok(count) => anyhow::bail!("{count} pairs instead of 20"),
            Err(error) => {
                let text = error.to_string();
                ensure!(text.contains("too many large responses"), "{text}");
                refused += 1;
            }
        }
    }
    let grown = peak_bytes(pid)?.saturating_sub(before);
    crate::support::note(&format!(
        "{done} done, {refused} refused, {} MiB more at the peak",
        grown / MIB
    ));
    ensure!(done > 0, "no range was answered");
    // The budget, plus what the engine and its cache need for reading.
    let most = budget + 96 * MIB;
    ensure!(grown < most, "{} MiB more at the peak", grown / MIB);
    Ok(())
}

#[test]
fn a_large_deletion_uses_little_memory() -> Result<()> {
    synod_testkit::run(Share::Whole, large_delete)
}

async fn large_delete(lab: &Lab) -> Result<()> {
    const KEYS: usize = 400;
    let mut cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
    let mut client = cluster.client(0).await?;
    for number in 0..KEYS {
        let key = format!("k{number:03}");
        client.put(key, vec![7_u8; MIB], None).await?;
    }
    let watch = WatchOptions::new().with_prefix();
    let mut events = client.watch("k", Some(watch)).await?;
    let pid = cluster.node(0).process()?.pid();
    reset_peak(pid)?;
    let before = peak_bytes(pid)?;
    let options = DeleteOptions::new().with_prefix();
    let deleted = client.delete("k", Some(options)).await?.deleted();
    ensure!(deleted == KEYS as i64, "{deleted} deleted");
    let mut seen = 0;
    while seen < KEYS {
        let response = events.message().await?.context("the watch ended")?;
        seen += response.events().len();
    }
    let grown = peak_bytes(pid)?.saturating_sub(before);
    crate::support::note(&format!("{} MiB more at the peak", grown / MIB));
    // Less than half of the records: only what the engine needs for writing, which depends on how
    // far its flushes are behind.
    let most = 200 * MIB;
    ensure!(grown < most, "{} MiB more at the peak", grown / MIB);
    Ok(())
}

/// Runs all futures concurrently.
async fn at_once<F>(futures: Vec<F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    for future in futures {
        tasks.spawn(future);
    }
    tasks.join_all().await
}
