//! Measures how many appends per second the log makes durable with fdatasync, and how fast it reads
//! a log back.
//!
//! `cargo run --release -p synod-log --example append_rate -- [directory]`

use std::{io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use synod_consensus_core::{Entry, EntryFields, EntryKind, Membership, SnapshotMeta, Write};
use synod_log::{CompletionSink, Log, LogConfig, LogFailure};
use synod_runtime::clock;
use synod_types::{Ballot, GroupId, Index, LogPosition, RequestId, WriteSeq};

type Error = Box<dyn std::error::Error>;

type Completions = Receiver<Result<(), LogFailure>>;

const GROUP: GroupId = GroupId::new(1);

struct Sink(Sender<Result<(), LogFailure>>);

impl CompletionSink for Sink {
    fn persisted(&self, _: GroupId, _: WriteSeq) {
        drop(self.0.send(Ok(())));
    }

    fn failed(&self, error: LogFailure) {
        drop(self.0.send(Err(error)));
    }
}

fn main() -> Result<(), Error> {
    let base = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let mut out = std::io::stdout();
    for (window, bytes) in [
        (1, 128),
        (16, 128),
        (64, 128),
        (256, 128),
        (1024, 128),
        (64, 4096),
        (16, 65536),
    ] {
        let dir = base.join(format!("synod-log-rate-{}", std::process::id()));
        let line = measure(dir.clone(), window, bytes)?;
        std::fs::remove_dir_all(&dir)?;
        writeln!(out, "{line}")?;
    }
    let dir = base.join(format!("synod-log-rate-{}", std::process::id()));
    let line = restart(dir.clone())?;
    std::fs::remove_dir_all(&dir)?;
    writeln!(out, "{line}")?;
    Ok(())
}

fn open(dir: PathBuf) -> Result<(Log, Completions, usize), Error> {
    let (sender, completions) = bounded(1 << 16);
    let (log, recovered) = Log::open(LogConfig::new(dir), Arc::new(Sink(sender)))?;
    let entries = recovered
        .groups
        .values()
        .map(|group| group.entries.len())
        .sum();
    Ok((log, completions, entries))
}

fn entry(index: u64, data: &Bytes) -> Write {
    Write::Put(Entry::from(EntryFields {
        index: Index::new(index),
        ballot: Ballot::term(1),
        id: RequestId::NONE,
        kind: EntryKind::Normal,
        data: data.clone(),
    }))
}

/// Keeps `window` appends of `bytes` each in flight for two seconds.
fn measure(dir: PathBuf, window: u64, bytes: usize) -> Result<String, Error> {
    let (log, completions, _) = open(dir)?;
    let data = Bytes::from(vec![0x5a; bytes]);
    let (mut sent, mut done) = (0, 0);
    let start = clock::now();
    let limit = Duration::from_secs(2);
    while clock::now() - start < limit {
        while sent < done + window {
            sent += 1;
            log.append(GROUP, WriteSeq::new(sent), vec![entry(sent, &data)])?;
        }
        completions.recv()??;
        done += 1;
        done += completions.try_iter().count() as u64;
        if sent % 100_000 < window {
            release(&log, done)?;
        }
    }
    let took = (clock::now() - start).as_secs_f64();
    let seen = log.metrics();
    let rate = done as f64 / took;
    let per_sync = done as f64 / seen.commits.max(1) as f64;
    let sync_us = seen.sync_total_us as f64 / seen.syncs().max(1) as f64;
    Ok(format!(
        "window {window:5} x {bytes:6} B: {rate:9.0} appends/s, {per_sync:6.1} a commit, mean sync {sync_us:6.1} us, \
         {:.0} MB/s",
        seen.bytes_written as f64 / took / 1e6
    ))
}

fn release(log: &Log, index: u64) -> Result<(), Error> {
    let last = LogPosition {
        ballot: Ballot::term(1),
        index: Index::new(index),
    };
    let membership = Membership::default();
    log.release(GROUP, SnapshotMeta { last, membership })?;
    Ok(())
}

/// Writes one gibibyte in entries of 1 KiB and reads it back.
fn restart(dir: PathBuf) -> Result<String, Error> {
    let (log, completions, _) = open(dir.clone())?;
    let data = Bytes::from(vec![0x5a; 1024]);
    let (total, batch) = (950_000u64, 1000);
    for first in (1..=total).step_by(batch) {
        let last = first + batch as u64;
        let writes = (first..last).map(|index| entry(index, &data)).collect();
        log.append(GROUP, WriteSeq::new(first), writes)?;
        completions.recv()??;
    }
    let segments = log.metrics().segments;
    log.close()?;
    drop(log);
    let start = clock::now();
    let (_log, _, entries) = open(dir)?;
    let took = clock::now() - start;
    Ok(format!(
        "restart with {entries} entries of 1 KiB in {segments} segments: {took:?}"
    ))
}
