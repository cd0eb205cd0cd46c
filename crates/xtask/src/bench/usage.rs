//! The resource usage of processes, from /proc.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use synod_testkit::Cluster;

use super::load::Figures;

/// Linux reports processor time in hundredths of a second, regardless of the kernel's tick.
const TICKS_PER_SECOND: u64 = 100;

/// Seconds of warm-up of every load.
pub(super) const WARMUP_SECONDS: f64 = 0.5;

/// The processor time of all members so far.
pub(super) fn cpu(cluster: &mut Cluster) -> Result<Duration> {
    cpu_of(&pids(cluster)?)
}

/// The largest resident set of any member, in bytes.
pub(super) fn peak_memory(cluster: &mut Cluster) -> Result<u64> {
    let mut peaks = pids(cluster)?.into_iter().map(peak_of);
    peaks.try_fold(0, |most, one| Ok(most.max(one?)))
}

/// The resident set of the first member, in bytes.
pub(super) fn memory(cluster: &mut Cluster) -> Result<u64> {
    memory_of(cluster.node(0).process()?.pid())
}

fn pids(cluster: &mut Cluster) -> Result<Vec<u32>> {
    (0..cluster.nodes().len())
        .map(|index| Ok(cluster.node(index).process()?.pid()))
        .collect()
}

/// The processor time of processes so far.
pub(super) fn cpu_of(pids: &[u32]) -> Result<Duration> {
    let mut total = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may contain spaces, so count fields after it.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .context("/proc/stat")?
            .1
            .split_whitespace()
            .collect();
        let user: u64 = fields.get(11).context("/proc/stat utime")?.parse()?;
        let system: u64 = fields.get(12).context("/proc/stat stime")?.parse()?;
        total += user + system;
    }
    Ok(Duration::from_micros(total * 1_000_000 / TICKS_PER_SECOND))
}

/// The largest resident set of a process so far, in bytes.
pub(super) fn peak_of(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

/// The resident set of a process, in bytes.
pub(super) fn memory_of(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

fn status(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .context("/proc/status")?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .context("/proc/status")?
        .parse()?;
    Ok(kib * 1024)
}

/// The processor time of an operation in microseconds, of a load of so many seconds. Operations of
/// the warm-up use processor time too but are not in the figures.
pub(super) fn per_operation(used: Duration, figures: &Figures, seconds: u32) -> f64 {
    let operations = figures.operations_per_second * (f64::from(seconds) + WARMUP_SECONDS);
    used.as_secs_f64() * 1e6 / operations.max(1.0)
}
