//! Loads an on-disk store and reads from it: `load [keys] [value bytes] [batch]`. Prints rates,
//! latencies and memory use.

#![expect(clippy::print_stdout, reason = "it prints to a terminal")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use synod_engine::{DiskConfig, DiskEngine, Engine};
use synod_mvcc::{
    Applied, KeyRange, MvccConfig, MvccError, MvccReader, MvccStore, Put, RangeQuery, Revision,
};
use synod_runtime::clock;
use synod_types::{Index, LogPosition};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let keys = arguments.next().transpose()?.unwrap_or(100_000);
    let value_bytes = arguments.next().transpose()?.unwrap_or(1024);
    let batch = arguments.next().transpose()?.unwrap_or(64);
    let dir = tempfile::tempdir_in(".")?;
    let mut load = Load::new(
        dir.path().join("engine"),
        usize::try_from(value_bytes)?,
        batch,
    )?;
    load.puts("insert in order", (0..keys).map(ordered))?;
    load.puts("insert at random", (keys..keys + keys / 4).map(scattered))?;
    load.puts("overwrite", (0..keys / 2).map(|n| ordered(n * 7919 % keys)))?;
    load.report();
    load.reads(keys)?;
    load.compact(keys)?;
    load.report();
    load.reads(keys)?;
    load.reopen()?;
    load.reads(keys)?;
    Ok(())
}

fn ordered(number: u64) -> Bytes {
    Bytes::from(format!("/registry/pods/{number:010}"))
}

fn scattered(number: u64) -> Bytes {
    let number = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Bytes::from(format!("/scattered/{number:016x}"))
}

struct Load {
    config: DiskConfig,
    engine: Arc<DiskEngine>,
    store: MvccStore,
    index: u64,
    value_bytes: usize,
    batch: u64,
    random: u64,
}

impl Load {
    fn new(dir: std::path::PathBuf, value_bytes: usize, batch: u64) -> Outcome<Self> {
        let config = DiskConfig::new(dir);
        let engine = Arc::new(DiskEngine::open(config.clone())?);
        let store = MvccStore::open(Arc::<DiskEngine>::clone(&engine), MvccConfig::default())?;
        Ok(Self {
            config,
            engine,
            store,
            index: 0,
            value_bytes,
            batch,
            random: 1,
        })
    }

    fn value(&mut self) -> Bytes {
        let mut value = Vec::with_capacity(self.value_bytes + 8);
        while value.len() < self.value_bytes {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            value.extend_from_slice(&self.random.to_le_bytes());
        }
        value.truncate(self.value_bytes);
        value.into()
    }

    fn making_a_value(&mut self) -> Duration {
        const TRIES: u32 = 1_000;
        let cpu = thread_cpu();
        let bytes: usize = (0..TRIES).map(|_| self.value().len()).sum();
        assert!(bytes > 0);
        (thread_cpu() - cpu) / TRIES
    }

    fn commit(&mut self) -> Result<(), MvccError> {
        self.index += 1;
        let position = LogPosition {
            index: Index::new(self.index),
            ..LogPosition::ZERO
        };
        let membership = None;
        self.store.commit(Applied {
            position,
            membership,
        })?;
        Ok(())
    }

    fn puts(&mut self, what: &str, keys: impl Iterator<Item = Bytes>) -> Outcome<()> {
        let mut latencies = Latencies::default();
        let making = self.making_a_value();
        let (start, cpu) = (clock::now(), thread_cpu());
        let (mut count, mut pending) = (0_u64, 0);
        let mut began = clock::now();
        for key in keys {
            let value = self.value();
            let mut txn = self.store.begin();
            txn.put(&Put {
                key,
                value,
                ..Put::default()
            })?;
            txn.finish();
            count += 1;
            pending += 1;
            if pending == self.batch {
                self.commit()?;
                latencies.add(began.elapsed());
                began = clock::now();
                pending = 0;
            }
        }
        self.commit()?;
        let (took, cpu) = (start.elapsed(), thread_cpu() - cpu);
        let cpu = cpu.as_secs_f64() * 1e6 / count as f64 - making.as_secs_f64() * 1e6;
        println!(
            "{what}: {count} puts, {:.0}/s, {:.2} us CPU a put, batch {latencies}, RSS {} MiB, {:?}",
            count as f64 / took.as_secs_f64(),
            cpu,
            rss_mib(),
            self.engine.stats(),
        );
        Ok(())
    }

    fn reads(&mut self, keys: u64) -> Outcome<()> {
        let reader = self.store.reader();
        let view = reader.view();
        let total = view.key_count();
        let hot: Vec<Bytes> = (0..1_000).map(|n| ordered(n * 31 % keys)).collect();
        time("get, hot", 20_000, |n| {
            view.get(&hot[n % hot.len()]).map(|found| found.is_some())
        })?;
        time("get, anywhere", 20_000, |n| {
            let key = ordered(n as u64 * 7919 % keys);
            view.get(&key).map(|found| found.is_some())
        })?;
        time("view + get, hot", 20_000, |n| {
            let view = reader.view();
            view.get(&hot[n % hot.len()]).map(|found| found.is_some())
        })?;
        let page = |start: Bytes, limit| RangeQuery {
            limit,
            ..RangeQuery::new(KeyRange::Span {
                start,
                end: Some(Bytes::from_static(b"/registry/q")),
            })
        };
        time("range of 100, same place", 2_000, |_| {
            let result = view.range(&page(ordered(keys / 2), 100))?;
            Ok(result.kvs.len() == 100 && result.more)
        })?;
        time("range of 100, anywhere", 2_000, |n| {
            let result = view.range(&page(ordered(n as u64 * 7919 % (keys - 100)), 100))?;
            Ok(result.kvs.len() == 100)
        })?;
        time("range of 100, revision before", 2_000, |n| {
            let mut query = page(ordered(n as u64 * 7919 % (keys - 100)), 100);
            query.revision = Some(Revision::new(view.revision().get() - 50));
            Ok(view.range(&query)?.kvs.len() == 100)
        })?;
        time("count of all", 2_000, |_| {
            Ok(view.range(&page(Bytes::new(), 1))?.count <= total)
        })?;
        Ok(())
    }

    /// Compacts while another thread reads and this one writes. Prints the longest latencies.
    fn compact(&mut self, keys: u64) -> Outcome<()> {
        let revision = self.store.revision();
        let mut txn = self.store.begin();
        txn.compact(revision)?;
        txn.finish();
        self.commit()?;
        let done = AtomicBool::new(false);
        let swept = AtomicU64::new(0);
        let reader = self.store.reader();
        let start = clock::now();
        let result = std::thread::scope(|scope| {
            let gets = scope.spawn(|| hot_gets(&reader, keys, &done));
            scope.spawn(|| {
                let compactor = reader.compactor();
                while let Ok(step) = compactor.step(1_000) {
                    swept.fetch_add(step.rows as u64, Ordering::Relaxed);
                    if step.is_done {
                        break;
                    }
                }
                done.store(true, Ordering::Relaxed);
            });
            let mut latencies = Latencies::default();
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                let began = clock::now();
                let value = self.value();
                let mut txn = self.store.begin();
                txn.put(&Put {
                    key: ordered(number * 7919 % keys),
                    value,
                    ..Put::default()
                })?;
                txn.finish();
                self.commit()?;
                latencies.add(began.elapsed());
                number += 1;
            }
            println!("put during compaction: {latencies}");
            println!("get during compaction: {}", gets.join().unwrap_or_default());
            Ok::<_, MvccError>(())
        });
        result?;
        println!("compaction: {swept:?} rows in {:?}", start.elapsed());
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        let other = Arc::new(synod_engine::MemoryEngine::new());
        drop(
            self.store
                .replace_engine(Arc::<synod_engine::MemoryEngine>::clone(&other))?,
        );
        let Some(engine) = Arc::get_mut(&mut self.engine) else {
            return Err("the engine is still in use".into());
        };
        drop(std::mem::replace(engine, {
            let mut config = self.config.clone();
            config.dir.set_extension("other");
            DiskEngine::open(config)?
        }));
        let start = clock::now();
        self.engine = Arc::new(DiskEngine::open(self.config.clone())?);
        let opened = start.elapsed();
        self.store
            .replace_engine(Arc::<DiskEngine>::clone(&self.engine))?;
        println!("reopen: engine {opened:?}, all {:?}", start.elapsed());
        self.report();
        Ok(())
    }

    fn report(&self) {
        println!(
            "revision {}, {} keys, {} MiB live, {} MiB on disk, RSS {} MiB",
            self.store.revision(),
            self.store.view().key_count(),
            self.store.reader().live_bytes() >> 20,
            self.store.reader().disk_bytes() >> 20,
            rss_mib(),
        );
    }
}

fn hot_gets(reader: &MvccReader, keys: u64, done: &AtomicBool) -> Latencies {
    let mut latencies = Latencies::default();
    let mut number = 0;
    while !done.load(Ordering::Relaxed) {
        let began = clock::now();
        let found = reader.view().get(&ordered(number * 31 % keys));
        latencies.add(began.elapsed());
        assert!(matches!(found, Ok(Some(_))), "{found:?}");
        number += 1;
    }
    latencies
}

fn time(
    what: &str,
    count: usize,
    mut run: impl FnMut(usize) -> Result<bool, MvccError>,
) -> Outcome<()> {
    let mut latencies = Latencies::default();
    let start = clock::now();
    for number in 0..count {
        let began = clock::now();
        if !run(number)? {
            return Err(format!("{what}: unexpected result").into());
        }
        latencies.add(began.elapsed());
    }
    let mean = start.elapsed() / u32::try_from(count)?;
    println!("{what}: mean {mean:?}, {latencies}");
    Ok(())
}

#[derive(Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = |permille: usize| {
            sorted.get((sorted.len() * permille / 1000).min(sorted.len().max(1) - 1))
        };
        let [p50, p99, p999, max] =
            [500, 990, 999, 1000].map(|p| at(p).copied().unwrap_or_default());
        write!(f, "p50 {p50:?} p99 {p99:?} p99.9 {p999:?} max {max:?}")
    }
}

fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.unwrap_or(0_u64) >> 10
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat
        .split_whitespace()
        .next()
        .and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
