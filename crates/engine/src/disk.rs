//! The on-disk engine: fjall, an LSM tree, with one fjall keyspace per [`Space`].
//!
//! It departs from fjall's defaults in these points:
//! - Snapshots are opened under the write lock. fjall also publishes a sequence number at the end
//!   of a flush. A snapshot opened at that moment would see part of a batch that is still being
//!   applied.
//! - Tables are compacted on our own thread ([`compaction`]). With one fjall worker, a long
//!   compaction delays flushes; with two, the first spins while the second compacts.
//! - Writes slow down gradually ([`pacing`]), before fjall would stop them for 100 ms at a time.
//! - The journal is synced early ([`sync`]), because fjall blocks all writes while it syncs.
//! - Tables are written to disk while they grow ([`tables`]), not all at once when they are
//!   complete.
//! - Versions of a keyspace that no open snapshot reads are dropped ([`versions`]). fjall would
//!   keep them, and each version holds its write buffers in memory.
//! - Versions of a row that no open snapshot reads are removed from the write buffer
//!   ([`overwrites`]). fjall keeps all of them until a flush, and scans step over them.
//! - Each batch carries a commit number, and [`Engine::persist`] records it ([`marker`]). If a
//!   journal has lost durable batches, the engine refuses to open; fjall would truncate it
//!   silently.

mod compaction;
mod config;
mod format;
mod journal;
mod marker;
mod overwrites;
mod pacing;
mod rotation;
mod snapshot;
mod sync;
mod tables;
mod versions;

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fjall::{AbstractTree, Database, Keyspace, PersistMode};
use parking_lot::{Mutex, RwLock};

use self::compaction::Compaction;
pub use self::config::DiskConfig;
use self::marker::Marker;
use self::overwrites::Overwrites;
use self::pacing::Pacing;
use self::rotation::Rotation;
use self::snapshot::{DiskSnapshot, OpenSnapshots};
use self::sync::JournalSync;
use self::tables::{Merging, Progress};
use crate::memory::check_key;
use crate::{Batch, Engine, EngineError, EngineStats, Snapshot, Space};

/// fjall's directory inside the engine's directory.
const DATABASE_FOLDER: &str = "fjall";
/// The engine's own keyspace.
const ENGINE_KEYSPACE: &str = "engine";
/// The row that holds the number of the last batch.
const COMMITS_KEY: &[u8] = b"commits";

/// An [`Engine`] on disk.
pub struct DiskEngine {
    shared: Arc<OpenDatabase>,
    // These stop and join their threads when dropped.
    _compaction: Compaction,
    journal_sync: JournalSync,
}

/// State shared by the engine, its snapshots and its background threads.
struct OpenDatabase {
    dir: PathBuf,
    // Serialises batches, and snapshots against batches.
    writer: Mutex<WriterState>,
    marker: Mutex<Marker>,
    snapshots: OpenSnapshots,
    pacing: Pacing,
    // The first failure. The engine refuses all writes after it.
    failed: RwLock<Option<String>>,
    // Bytes written since the engine was opened.
    written: AtomicU64,
    spaces: Spaces,
    // The write buffer limit of each space, in bytes.
    buffer_limits: [u64; Space::COUNT],
    engine_keyspace: Keyspace,
    database: Database,
}

struct WriterState {
    commits: u64,
    rotation: Rotation,
    overwrites: Overwrites,
}

type Spaces = Arc<[Keyspace; Space::COUNT]>;

impl DiskEngine {
    /// Opens the engine in `config.dir`. Creates it if the directory is missing or empty.
    ///
    /// # Errors
    /// [`EngineError::Locked`] if another process has it open, [`EngineError::Foreign`] if the
    /// directory has other content, [`EngineError::Corrupt`] if durable data is missing or damaged.
    pub fn open(config: DiskConfig) -> Result<Self, EngineError> {
        let dir = config.dir.clone();
        format::check_or_create(&dir)?;
        let marker = Marker::open(&dir)?;
        journal::check(&dir, marker.persisted())?;
        let merging = Arc::new(Merging::default());
        let database = open_database(&config, &merging).map_err(|error| convert(&dir, error))?;
        let engine_keyspace = database
            .keyspace(ENGINE_KEYSPACE, || config.small_keyspace())
            .map_err(|error| convert(&dir, error))?;
        let mut keyspaces = Vec::with_capacity(Space::COUNT);
        for space in Space::ALL {
            let keyspace = database
                .keyspace(space.name(), || config.keyspace(space))
                .map_err(|error| convert(&dir, error))?;
            keyspaces.push(keyspace);
        }
        let spaces: Spaces = match <[Keyspace; Space::COUNT]>::try_from(keyspaces) {
            Ok(spaces) => Arc::new(spaces),
            Err(_) => {
                return Err(EngineError::Failed {
                    reason: "the number of keyspaces differs from the number of spaces".to_owned(),
                });
            }
        };
        let commits = read_commits(&dir, &engine_keyspace)?;
        marker.check(commits)?;
        let shared = Arc::new(OpenDatabase {
            writer: Mutex::new(WriterState {
                commits,
                rotation: Rotation::default(),
                overwrites: Overwrites::default(),
            }),
            buffer_limits: std::array::from_fn(|at| config.buffer_bytes(Space::ALL[at])),
            marker: Mutex::new(marker),
            snapshots: OpenSnapshots::default(),
            pacing: Pacing::new(config.write_buffer_bytes),
            failed: RwLock::new(None),
            written: AtomicU64::new(0),
            spaces,
            engine_keyspace,
            database,
            dir,
        });
        let compaction = Compaction::start(Arc::clone(&shared), merging, &config)?;
        let journal_sync = JournalSync::start(Arc::clone(&shared))?;
        Ok(Self {
            shared,
            _compaction: compaction,
            journal_sync,
        })
    }

    /// Removes an engine's directory and all its content. A missing directory is not an error. The
    /// engine must not be open.
    ///
    /// # Errors
    /// [`EngineError::Foreign`] if the directory is not an engine's, [`EngineError::Io`].
    pub fn destroy(dir: &Path) -> Result<(), EngineError> {
        format::destroy(dir)
    }
}

impl fmt::Debug for DiskEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskEngine")
            .field("dir", &self.shared.dir)
            .finish_non_exhaustive()
    }
}

impl Engine for DiskEngine {
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        if batch.is_empty() {
            return Ok(());
        }
        for op in batch.ops() {
            check_key(&op.key)?;
        }
        self.shared.check_failed()?;
        self.shared.pacing.wait(&self.shared);
        let bytes = batch.bytes() as u64;
        let mut writer = self.shared.writer.lock();
        let commits = writer.commits + 1;
        let hot = writer.overwrites.count(batch.ops());
        self.shared.commit(batch, commits)?;
        writer.commits = commits;
        overwrites::remove_unread(&hot, &self.shared.spaces, &self.shared.snapshots);
        let limits = self.shared.buffer_limits.iter().copied();
        let spaces = self.shared.spaces.iter().zip(limits);
        let own = (&self.shared.engine_keyspace, config::SMALL_MEMTABLE_BYTES);
        let rotated = writer
            .rotation
            .after_write(spaces.chain(std::iter::once(own)));
        rotated.map_err(|error| {
            let error = convert(&self.shared.dir, error);
            self.shared.fail(&error);
            error
        })?;
        drop(writer);
        self.shared.written.fetch_add(bytes, Ordering::Relaxed);
        self.journal_sync.written(bytes);
        Ok(())
    }

    fn wait_for_room(&self) -> bool {
        self.shared.drop_unused_versions();
        self.shared.pacing.wait_for_room(&self.shared)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        let writer = self.shared.writer.lock();
        let snapshot = DiskSnapshot::open(&self.shared);
        drop(writer);
        Arc::new(snapshot)
    }

    fn has_snapshots(&self) -> bool {
        !self.shared.snapshots.lock().is_empty()
    }

    fn persist(&self) -> Result<(), EngineError> {
        self.shared.check_failed()?;
        let commits = self.shared.writer.lock().commits;
        // Writes continue during this first sync. The second sync holds fjall's lock but has little
        // left to write.
        let ahead = sync::sync_active(&self.shared.dir);
        let result = ahead
            .map_err(|error| format::io_error(&self.shared.dir, error))
            .and_then(|()| self.sync_and_record(commits));
        result.inspect_err(|error| self.shared.fail(error))
    }

    fn disk_bytes(&self) -> u64 {
        let tables: u64 = self.shared.spaces.iter().map(Keyspace::disk_space).sum();
        tables + self.shared.engine_keyspace.disk_space() + journal_bytes(&self.shared.dir)
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            disk_bytes: self.disk_bytes(),
            write_buffer_bytes: self.shared.database.write_buffer_size(),
            cache_bytes: self.shared.database.cache_size(),
            journals: self.shared.database.journal_count() as u64,
            level0_runs: self.shared.pacing.level0_runs(),
            write_delay_micros: self.shared.pacing.delayed_micros(),
        }
    }
}

impl DiskEngine {
    fn sync_and_record(&self, commits: u64) -> Result<(), EngineError> {
        let shared = &self.shared;
        shared
            .database
            .persist(PersistMode::SyncData)
            .map_err(|error| convert(&shared.dir, error))?;
        let mut marker = shared.marker.lock();
        marker.record(commits)
    }
}

impl OpenDatabase {
    /// Applies a batch. The caller holds the write lock.
    fn commit(&self, batch: Batch, commits: u64) -> Result<(), EngineError> {
        let mut writes =
            fjall::OwnedWriteBatch::with_capacity(self.database.clone(), batch.len() + 1)
                .durability(Some(PersistMode::Buffer));
        for op in batch.into_ops() {
            let keyspace = &self.spaces[op.space.index()];
            match op.value {
                Some(value) => writes.insert(keyspace, op.key, value),
                None => writes.remove(keyspace, op.key),
            }
        }
        let number = Bytes::copy_from_slice(&commits.to_be_bytes());
        writes.insert(
            &self.engine_keyspace,
            Bytes::from_static(COMMITS_KEY),
            number,
        );
        writes.commit().map_err(|error| {
            let error = convert(&self.dir, error);
            self.fail(&error);
            error
        })
    }

    /// The largest number of sealed, unflushed write buffers in any space.
    fn most_sealed(&self) -> usize {
        let sealed = self.spaces.iter().map(|k| k.tree.sealed_memtable_count());
        sealed.max().unwrap_or(0)
    }

    /// Drops fjall's versions that no open snapshot reads, which frees their write buffers.
    fn drop_unused_versions(&self) {
        for keyspace in self.spaces.iter() {
            if let Err(error) = self.snapshots.drop_unused_versions(keyspace) {
                let error = convert(&self.dir, error);
                tracing::warn!(%error, "could not drop unused versions; their write buffers stay in memory");
            }
        }
    }

    fn check_failed(&self) -> Result<(), EngineError> {
        match &*self.failed.read() {
            Some(reason) => Err(EngineError::Failed {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    fn fail(&self, error: &EngineError) {
        tracing::error!(%error, "engine failed; it accepts no more writes");
        self.failed.write().get_or_insert_with(|| error.to_string());
    }
}

fn open_database(config: &DiskConfig, merging: &Arc<Merging>) -> Result<Database, fjall::Error> {
    let progress = Arc::new(Progress(AssertUnwindSafe(Arc::clone(merging))));
    Database::builder(config.dir.join(DATABASE_FOLDER))
        .cache_size(config.cache_bytes)
        .max_journaling_size(config.journal_bytes.max(config::MIN_JOURNAL_BYTES))
        .max_cached_files(Some(config.open_files.max(config::MIN_OPEN_FILES)))
        // This worker only flushes; compaction has its own thread.
        .worker_threads(1)
        .journal_compression(fjall::CompressionType::None)
        .with_compaction_filter_factories(Arc::new(move |_| {
            Some(Arc::<Progress>::clone(&progress))
        }))
        .open()
}

fn read_commits(dir: &Path, keyspace: &Keyspace) -> Result<u64, EngineError> {
    let row = keyspace
        .get(COMMITS_KEY)
        .map_err(|error| convert(dir, error))?;
    match row.as_deref() {
        None => Ok(0),
        Some(bytes) => match <[u8; 8]>::try_from(bytes) {
            Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
            Err(_) => Err(EngineError::Corrupt {
                dir: dir.to_owned(),
                detail: format!("commit number of {} bytes", bytes.len()),
            }),
        },
    }
}

/// The disk space that journals really use: fjall preallocates sparse files.
fn journal_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir.join(DATABASE_FOLDER)) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "jnl"))
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.blocks() * 512)
        .sum()
}

/// The disk counts as full below this much free space. A flush writes up to one write buffer, and
/// its output is deleted when it fails, so some space is free again after the failure.
const FULL_BELOW_BYTES: u64 = 64 << 20;

/// The reason why fjall's background work failed. fjall reports only that it failed; a full disk
/// can still be detected here.
fn background_failure(dir: &Path) -> EngineError {
    let room = rustix::fs::statvfs(dir).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    match room {
        Ok(free) if free < FULL_BELOW_BYTES => EngineError::Io {
            dir: dir.to_owned(),
            source: std::io::Error::from(rustix::io::Errno::NOSPC),
        },
        Ok(_) | Err(_) => EngineError::Failed {
            reason: "an earlier flush or sync failed".to_owned(),
        },
    }
}

/// Converts a fjall error.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other errors, including future ones, mean that stored data can't be read"
)]
fn convert(dir: &Path, error: fjall::Error) -> EngineError {
    let dir = dir.to_owned();
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
            EngineError::Io { dir, source }
        }
        fjall::Error::Locked => EngineError::Locked { dir },
        fjall::Error::InvalidVersion(version) => EngineError::Foreign {
            dir,
            detail: format!("its storage format is {version:?}"),
        },
        fjall::Error::Poisoned => background_failure(&dir),
        other => EngineError::Corrupt {
            dir,
            detail: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
