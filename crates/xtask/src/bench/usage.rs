//! A server process's resource usage, from /proc.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use synod_testkit::Cluster;

/// Linux reports processor time in hundredths of a second, regardless of the kernel's tick.
const TICKS_PER_SECOND: u64 = 100;

/// The processor time of all members so far.
pub(super) fn cpu(cluster: &mut Cluster) -> Result<Duration> {
    let mut total = 0;
    for index in 0..cluster.nodes().len() {
        let pid = cluster.node(index).process()?.pid();
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

/// The largest resident set of any member, in bytes.
pub(super) fn peak_memory(cluster: &mut Cluster) -> Result<u64> {
    (0..cluster.nodes().len())
        .map(|index| status(cluster, index, "VmHWM:"))
        .try_fold(0, |most, one| Ok(most.max(one?)))
}

/// The resident set of the first member, in bytes.
pub(super) fn memory(cluster: &mut Cluster) -> Result<u64> {
    status(cluster, 0, "VmRSS:")
}

fn status(cluster: &mut Cluster, index: usize, name: &str) -> Result<u64> {
    let pid = cluster.node(index).process()?.pid();
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
