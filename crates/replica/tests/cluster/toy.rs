//! A small state machine: a map, with a hash over everything ever applied.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::vec;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use synod_consensus_core::{ConfigCommand, Entry, EntryKind, SnapshotMeta};
use synod_replica::{
    ApplyError, Persister, SnapshotChunk, SnapshotSink, SnapshotSource, StateMachine,
};
use synod_types::Index;

/// Batches are larger than this, so every test has a machine that leaves entries for the next call.
const MAX_APPLIED_AT_ONCE: usize = 3;

/// The output of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Output {
    pub(crate) index: Index,
    /// The hash after the entry.
    pub(crate) hash: u64,
}

#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) meta: SnapshotMeta,
    pub(crate) hash: u64,
    pub(crate) map: BTreeMap<Bytes, Bytes>,
}

/// What survives the machine. Tests use it to inspect the state and inject faults.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) live: Mutex<State>,
    durable: Mutex<State>,
    /// Flushes do nothing: a restart finds the state of the last earlier flush and replays the log.
    pub(crate) never_flush: AtomicBool,
    /// The process was killed but the machine still runs: the next start finds everything that was
    /// written.
    pub(crate) killed: AtomicBool,
    /// Reads of snapshot chunks before one fails, once; zero for never.
    pub(crate) fail_read_at: AtomicUsize,
    /// The number of chunks served, and of those requested with a token.
    pub(crate) chunks_read: AtomicUsize,
    pub(crate) chunks_resumed: AtomicUsize,
    pub(crate) snapshots: AtomicUsize,
    pub(crate) sinks: AtomicUsize,
    /// The number of live sinks; a machine has room for one.
    sinks_alive: AtomicUsize,
    pub(crate) installs: AtomicUsize,
}

impl Disk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.live.lock().map.get(key.as_bytes()).cloned()
    }

    /// Position and hash.
    pub(crate) fn fingerprint(&self) -> (Index, u64) {
        let live = self.live.lock();
        (live.meta.last.index, live.hash)
    }

    /// Starts a machine from the durable state, as after a power failure. If only the process was
    /// killed, starts from everything it wrote.
    pub(crate) fn machine(self: &Arc<Self>) -> Toy {
        if !self.killed.swap(false, Ordering::Relaxed) {
            *self.live.lock() = self.durable.lock().clone();
        }
        Toy {
            disk: Arc::clone(self),
        }
    }

    /// The position that would survive a power failure.
    pub(crate) fn durable_index(&self) -> Index {
        self.durable.lock().meta.last.index
    }

    /// Replaces the durable state.
    pub(crate) fn put_durable(&self, state: State) {
        *self.durable.lock() = state;
    }
}

pub(crate) struct Toy {
    disk: Arc<Disk>,
}

fn mix(hash: u64, bytes: &[u8]) -> u64 {
    // FNV-1a, eight bytes at a time.
    bytes.chunks(8).fold(hash, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl State {
    fn apply(&mut self, entry: &Entry) -> Result<Output, ApplyError> {
        if entry.index != self.meta.last.index.next() {
            return Err(ApplyError::new(format!(
                "entry {} after {}",
                entry.index, self.meta.last
            )));
        }
        self.meta.last = entry.position();
        self.hash = mix(self.hash ^ entry.index.get(), &entry.data);
        match entry.kind {
            EntryKind::Noop => {}
            EntryKind::Config => {
                let command = ConfigCommand::decode(entry.data.clone())
                    .map_err(|error| ApplyError::caused_by("bad config entry", error))?;
                self.meta.membership = command.membership;
            }
            EntryKind::Normal => {
                // `key=value`; anything else only changes the hash.
                if let Some(at) = entry.data.iter().position(|byte| *byte == b'=') {
                    self.map
                        .insert(entry.data.slice(..at), entry.data.slice(at + 1..));
                }
            }
        }
        Ok(Output {
            index: entry.index,
            hash: self.hash,
        })
    }
}

impl StateMachine for Toy {
    type Output = Output;
    type Sink = Sink;

    fn apply(
        &mut self,
        entries: &mut vec::IntoIter<Entry>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), ApplyError> {
        let mut live = self.disk.live.lock();
        for entry in entries.take(MAX_APPLIED_AT_ONCE) {
            outputs.push(live.apply(&entry)?);
        }
        Ok(())
    }

    fn applied(&self) -> SnapshotMeta {
        self.disk.live.lock().meta.clone()
    }

    fn persister(&self) -> Arc<dyn Persister> {
        Arc::new(Flush(Arc::clone(&self.disk)))
    }

    fn snapshot(&mut self) -> Result<Arc<dyn SnapshotSource>, ApplyError> {
        self.disk.snapshots.fetch_add(1, Ordering::Relaxed);
        let state = self.disk.live.lock().clone();
        Ok(Arc::new(Source {
            state,
            disk: Arc::clone(&self.disk),
        }))
    }

    fn begin_install(&mut self, meta: SnapshotMeta) -> Result<Sink, ApplyError> {
        self.disk.sinks.fetch_add(1, Ordering::Relaxed);
        let alive = self.disk.sinks_alive.fetch_add(1, Ordering::Relaxed);
        assert_eq!(alive, 0, "the previous sink still exists");
        Ok(Sink {
            _alive: Alive(Arc::clone(&self.disk)),
            state: State {
                meta,
                ..State::default()
            },
            has_header: false,
        })
    }

    fn install(&mut self, sink: Sink) -> Result<(), ApplyError> {
        self.disk.installs.fetch_add(1, Ordering::Relaxed);
        *self.disk.durable.lock() = sink.state.clone();
        *self.disk.live.lock() = sink.state;
        Ok(())
    }
}

struct Flush(Arc<Disk>);

impl Persister for Flush {
    fn persist(&self) -> Result<SnapshotMeta, ApplyError> {
        if !self.0.never_flush.load(Ordering::Relaxed) {
            let live = self.0.live.lock().clone();
            *self.0.durable.lock() = live;
        }
        Ok(self.0.durable.lock().meta.clone())
    }
}

/// Records of key and value with their lengths. The first record has an empty key and holds the
/// hash.
struct Source {
    state: State,
    disk: Arc<Disk>,
}

fn put_record(out: &mut BytesMut, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        out.put_u32(u32::try_from(part.len()).unwrap());
        out.put_slice(part);
    }
}

impl SnapshotSource for Source {
    fn meta(&self) -> &SnapshotMeta {
        &self.state.meta
    }

    fn read(&self, resume_after: &Bytes, max_bytes: usize) -> Result<SnapshotChunk, ApplyError> {
        let number = self.disk.chunks_read.fetch_add(1, Ordering::Relaxed) + 1;
        let fail_at = self.disk.fail_read_at.load(Ordering::Relaxed);
        if fail_at != 0 && number >= fail_at {
            self.disk.fail_read_at.store(0, Ordering::Relaxed);
            return Err(ApplyError::new("injected"));
        }
        let mut data = BytesMut::new();
        let from = if resume_after.is_empty() {
            put_record(&mut data, b"", &self.state.hash.to_be_bytes());
            Bound::Unbounded
        } else {
            self.disk.chunks_resumed.fetch_add(1, Ordering::Relaxed);
            Bound::Excluded(resume_after.clone())
        };
        let mut resume = None;
        for (key, value) in self.state.map.range((from, Bound::Unbounded)) {
            if resume.is_some() && data.len() >= max_bytes {
                return Ok(SnapshotChunk {
                    data: data.freeze(),
                    resume,
                });
            }
            put_record(&mut data, key, value);
            resume = Some(key.clone());
        }
        Ok(SnapshotChunk {
            data: data.freeze(),
            resume: None,
        })
    }
}

/// Decrements the number of live sinks when dropped.
struct Alive(Arc<Disk>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.sinks_alive.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) struct Sink {
    _alive: Alive,
    state: State,
    has_header: bool,
}

impl SnapshotSink for Sink {
    fn write(&mut self, mut data: Bytes) -> Result<(), ApplyError> {
        while data.has_remaining() {
            let mut part = || {
                let length = data.try_get_u32().ok()?;
                let length = usize::try_from(length).ok()?;
                (data.len() >= length).then(|| data.split_to(length))
            };
            let (Some(key), Some(mut value)) = (part(), part()) else {
                return Err(ApplyError::new("cut record"));
            };
            if key.is_empty() {
                self.state.hash = value.get_u64();
                self.has_header = true;
            } else {
                self.state.map.insert(key, value);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ApplyError> {
        if self.has_header {
            Ok(())
        } else {
            Err(ApplyError::new("no header"))
        }
    }
}
