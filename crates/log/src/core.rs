//! The log without threads and clocks: decides what to write where, on any [`Disk`].
//!
//! Each commit has this order: encode the records, write, sync, and only then report success and
//! release segments that no group needs. If the segment is full, first make the next segment
//! durable, then seal the full one, then continue in the next one, which starts with a checkpoint
//! of all groups.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use synod_consensus_core::mutants::{Mutant, is_active};
use synod_consensus_core::{SnapshotMeta, Write};
use synod_types::GroupId;

use crate::{
    batch::Batch,
    disk::Disk,
    error::{LogFailure, OpenError},
    ledger::Ledger,
    metrics::Metrics,
    record::{
        Fields, Kind, RECORD_HEADER_BYTES, RecordCodec, SegmentId, encode_membership, record_bytes,
    },
    recovery::{Found, LastBatch, Segment, recover},
    replay::Recovered,
    segment::{SEGMENT_HEADER_BYTES, segment_name, spare_name},
};

mod files;

use files::{Files, SegmentMaker, Spare, failure};
pub use files::{SpareRequest, make_spare};

/// The minimum segment size, in bytes.
pub const MIN_SEGMENT_BYTES: u64 = 16 << 10;
/// The maximum segment size, in bytes.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// The maximum size of an entry's data, in bytes.
pub const MAX_ENTRY_BYTES: u64 = 256 << 20;

/// Reserved in each segment, so that a seal always fits.
const SEAL_BYTES: u64 = RECORD_HEADER_BYTES;
const BLOCK_BYTES: u64 = 4096;

/// Whether commits wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncMode {
    /// Each commit ends with an fdatasync. Acknowledged data survives a power loss.
    #[default]
    Data,
    /// No commit syncs. Acknowledged data survives the end of the process but not a power loss.
    /// After a power loss the log may even be refused as corrupt.
    None,
}

/// The configuration of a [`LogCore`].
#[derive(Clone, Copy, Debug)]
pub struct LogCoreConfig {
    /// Size of a segment in bytes: a multiple of 4096 from [`MIN_SEGMENT_BYTES`] to
    /// [`MAX_SEGMENT_BYTES`]. A segment is larger if a single record or the state of all groups
    /// needs it.
    pub segment_bytes: u64,
    /// The number of unneeded segments to keep for reuse; more are removed.
    pub max_recycled_segments: usize,
    /// Whether commits wait for the disk.
    pub sync: SyncMode,
}

/// An action to record for a group.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// A write that the consensus core asks for.
    Write(&'a Write),
    /// Entries up to this position are no longer needed. Ignored if it is before an earlier
    /// release.
    Release(&'a SnapshotMeta),
    /// The group was removed.
    Forget,
}

/// A segmented log shared by many groups.
pub struct LogCore {
    disk: Arc<dyn Disk>,
    config: LogCoreConfig,
    metrics: Arc<Metrics>,
    log: u64,
    ledger: Ledger,
    active: Segment,
    next: Option<Segment>,
    batch: Batch,
    next_batch: u64,
    /// Segments before this one are not needed, according to the log itself.
    horizon: u64,
    spares: Vec<Spare>,
    next_spare: u64,
    /// Whether the current segment may lack part of the checkpoint that segments start with. True
    /// after a restart, since an interrupted write may have torn it.
    checkpoint_due: bool,
    /// Whether a later record already proves that the last batch is durable.
    marked: bool,
    failure: Option<LogFailure>,
}

impl LogCoreConfig {
    fn validate(&self) -> Result<(), OpenError> {
        let bytes = self.segment_bytes;
        let in_range = (MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&bytes);
        if in_range && bytes.is_multiple_of(BLOCK_BYTES) {
            return Ok(());
        }
        let reason = format!(
            "segment size {bytes} is not a multiple of {BLOCK_BYTES} from {MIN_SEGMENT_BYTES} to \
             {MAX_SEGMENT_BYTES} bytes"
        );
        Err(OpenError::InvalidConfig { reason })
    }
}

impl LogCore {
    /// Opens the log on `disk`. If there is none, creates one with the random number `fresh_id` as
    /// its identity. Truncates an interrupted write at the end.
    ///
    /// # Errors
    /// [`OpenError`] says what was found and what to do.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: LogCoreConfig,
        fresh_id: u64,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Recovered), OpenError> {
        config.validate()?;
        let mut files = Files::list(disk.as_ref(), &config)?;
        let created = files.segments.is_empty();
        if created {
            let mut maker = SegmentMaker {
                disk: disk.as_ref(),
                config: &config,
                log: fresh_id,
                spares: &mut files.spares,
                next_spare: &mut files.next_spare,
            };
            let made = maker.make_first();
            made.map_err(|failure| failure.on_open(config.segment_bytes))?;
            files.segments.insert(1);
        }
        let found = recover(disk.as_ref(), &files.segments)?;
        Self::resume(disk, config, metrics, found, files, created)
    }

    /// Makes the recovered data durable and continues the log from there.
    fn resume(
        disk: Arc<dyn Disk>,
        config: LogCoreConfig,
        metrics: Arc<Metrics>,
        found: Found,
        files: Files,
        created: bool,
    ) -> Result<(Self, Recovered), OpenError> {
        if config.sync == SyncMode::Data {
            secure_end(disk.as_ref(), found.last_batch.as_ref())?;
        }
        let horizon = found.replay.horizon;
        let (groups, ledger) = found.replay.finish();
        let mut log = Self {
            batch: Batch::new(RecordCodec::new(SegmentId {
                log: found.log,
                sequence: found.active.sequence,
            })),
            disk,
            config,
            metrics,
            log: found.log,
            ledger,
            active: found.active,
            next: found.next,
            next_batch: found.next_batch,
            horizon,
            spares: files.spares,
            next_spare: files.next_spare,
            checkpoint_due: true,
            marked: found.last_batch.is_none(),
            failure: None,
        };
        let recycled = log.recycle_all(&found.leftovers);
        recycled.map_err(|failure| failure.on_open(config.segment_bytes))?;
        log.begin_batch(found.end);
        let recovered = Recovered {
            groups,
            created,
            torn: found.torn,
        };
        Ok((log, recovered))
    }

    /// Records `actions` in order and makes them durable. They take one write and one sync unless
    /// they exceed the segment. After a crash in between, the log holds a prefix of them.
    ///
    /// # Errors
    /// [`LogFailure`]; every later call fails with the same error, since the log has stopped.
    pub fn commit<'a>(
        &mut self,
        actions: impl IntoIterator<Item = (GroupId, Action<'a>)>,
    ) -> Result<(), LogFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.try_commit(actions);
        if result.is_err() && is_active(Mutant::FailedWriteIndexReused) {
            self.begin_batch(self.batch.start());
            return result;
        }
        self.failure = result.as_ref().err().cloned();
        result
    }

    /// Records that everything so far is durable, so that later damage to it can't be mistaken for
    /// an interrupted write. Does nothing if the log already shows that.
    ///
    /// # Errors
    /// As [`LogCore::commit`].
    pub fn mark(&mut self) -> Result<(), LogFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.marked {
            return Ok(());
        }
        let result = self
            .push(&Fields::mark(), &Bytes::new())
            .and_then(|()| self.flush());
        self.failure = result.as_ref().err().cloned();
        self.marked = true;
        result
    }

    /// Whether the log holds anything of this group.
    #[must_use]
    pub fn contains(&self, group: GroupId) -> bool {
        self.ledger.heads().contains_key(&group)
    }

    /// The group that needs the oldest segment, as of the last release.
    #[must_use]
    pub fn pinned_by(&self) -> Option<GroupId> {
        self.ledger.pinned_by()
    }

    /// Whether everything is known to be durable, see [`LogCore::mark`].
    #[must_use]
    pub const fn is_marked(&self) -> bool {
        self.marked
    }

    /// The file name and byte range of the mark at the end of the log, if there is one. For tests
    /// that damage a log: if both the mark and the write before it are damaged, the result looks
    /// like an interrupted write.
    #[must_use]
    pub fn mark_place(&self) -> Option<(String, Range<u64>)> {
        let end = self.batch.end();
        let name = segment_name(self.active.sequence);
        self.marked
            .then(|| (name, end.saturating_sub(record_bytes(0))..end))
    }

    /// The file to prepare with [`make_spare`] before the current segment is full. `None` if a
    /// spare exists or there is enough room left. Without a spare, the log creates the file when it
    /// needs it.
    pub fn wants_spare(&mut self) -> Option<SpareRequest> {
        if !self.spares.is_empty() || self.batch.end() < self.active.capacity / 2 {
            return None;
        }
        let name = spare_name(self.next_spare);
        self.next_spare += 1;
        Some(SpareRequest {
            name,
            bytes: self.config.segment_bytes,
        })
    }

    /// Adds a file prepared by [`make_spare`].
    pub fn add_spare(&mut self, spare: SpareRequest) {
        self.spares.push(Spare {
            name: spare.name,
            recycled: false,
        });
    }

    fn try_commit<'a>(
        &mut self,
        actions: impl IntoIterator<Item = (GroupId, Action<'a>)>,
    ) -> Result<(), LogFailure> {
        let mut released = false;
        for (group, action) in actions {
            self.complete_checkpoint()?;
            released |= self.record(group, action)?;
        }
        if released {
            self.push_horizon()?;
        }
        if self.batch.records() > 0 {
            self.flush()?;
            self.marked = false;
            self.metrics.observe_commit();
        }
        self.recycle()
    }

    /// Encodes one action. Returns whether it may have released segments.
    fn record(&mut self, group: GroupId, action: Action<'_>) -> Result<bool, LogFailure> {
        let none = Bytes::new();
        match action {
            Action::Write(Write::Put(entry)) => {
                self.push(&Fields::put(group, entry), &entry.data)?;
                self.ledger.put(group, entry.index);
                Ok(false)
            }
            Action::Write(Write::TruncateFrom(from)) => {
                self.push(&Fields::truncate(group, *from), &none)?;
                self.ledger.truncate(group, *from);
                Ok(false)
            }
            Action::Write(Write::Reset(start)) => {
                let membership = encode_membership(&start.membership);
                self.push(&Fields::start(Kind::Reset, group, start), &membership)?;
                self.ledger.reset(group, start.clone());
                Ok(true)
            }
            Action::Write(Write::HardState(state)) => {
                self.push(&Fields::hard_state(group, state), &none)?;
                self.ledger.hard_state(group, *state);
                Ok(false)
            }
            Action::Release(start) | Action::Write(Write::Advance(start)) => {
                let membership = encode_membership(&start.membership);
                self.push(&Fields::start(Kind::Release, group, start), &membership)?;
                self.ledger.release(group, start.clone());
                Ok(true)
            }
            Action::Forget => {
                self.push(&Fields::forget(group), &none)?;
                self.ledger.forget(group);
                Ok(true)
            }
        }
    }

    /// Writes the state of all groups to the current segment, so that it may become the oldest one.
    fn complete_checkpoint(&mut self) -> Result<(), LogFailure> {
        if std::mem::take(&mut self.checkpoint_due) {
            for (fields, payload) in self.ledger.checkpoint() {
                self.push(&fields, &payload)?;
            }
        }
        Ok(())
    }

    fn push_horizon(&mut self) -> Result<(), LogFailure> {
        let oldest = self.ledger.oldest_needed();
        if oldest > self.horizon {
            self.push(&Fields::horizon(oldest), &Bytes::new())?;
            self.horizon = oldest;
        }
        Ok(())
    }

    /// Encodes a record. Moves to the next segment if this one is full.
    fn push(&mut self, fields: &Fields, payload: &Bytes) -> Result<(), LogFailure> {
        let size = record_bytes(u64::try_from(payload.len()).unwrap_or(u64::MAX));
        if self.batch.end() + size + SEAL_BYTES > self.active.capacity {
            self.rotate(size)?;
        }
        self.batch.push(fields, payload);
        Ok(())
    }

    /// Moves to the next segment, which has room for a record of `room` bytes.
    fn rotate(&mut self, room: u64) -> Result<(), LogFailure> {
        let checkpoint = self.ledger.checkpoint();
        let checkpoint_bytes: u64 = checkpoint
            .iter()
            .map(|(_, payload)| record_bytes(u64::try_from(payload.len()).unwrap_or(u64::MAX)))
            .sum();
        let needed =
            SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + checkpoint_bytes + room + SEAL_BYTES;
        // If a checkpoint nearly filled its segment, the next checkpoint would follow at once.
        let needed = needed + 2 * checkpoint_bytes;
        let capacity = needed
            .next_multiple_of(BLOCK_BYTES)
            .max(self.config.segment_bytes);
        let next = match self.next.take() {
            Some(next) if next.capacity >= needed => next,
            _ => self.make_segment(self.active.sequence + 1, capacity)?,
        };
        self.batch.push(&Fields::seal(), &Bytes::new());
        self.flush()?;
        self.ledger.begin_segment(next.sequence);
        self.active = next;
        self.begin_batch(SEGMENT_HEADER_BYTES);
        self.horizon = self.horizon.max(self.ledger.oldest_needed());
        self.batch
            .push(&Fields::horizon(self.horizon), &Bytes::new());
        for (fields, payload) in &checkpoint {
            self.batch.push(fields, payload);
        }
        Ok(())
    }

    /// Writes the batch, syncs, and starts the next batch.
    fn flush(&mut self) -> Result<(), LogFailure> {
        let name = segment_name(self.active.sequence);
        let (start, end) = (self.batch.start(), self.batch.end());
        let written = self.active.file.write_at(start, &mut self.batch.parts());
        written.map_err(|error| failure(self.disk.as_ref(), "write", &name, error))?;
        if self.config.sync == SyncMode::Data {
            let mut synced = self.active.file.sync();
            if is_active(Mutant::SyncRetried) && synced.is_err() {
                synced = self.active.file.sync();
            }
            synced.map_err(|error| failure(self.disk.as_ref(), "sync", &name, error))?;
        }
        self.metrics
            .observe_write(self.batch.records(), end - start);
        self.next_batch += 1;
        self.begin_batch(end);
        Ok(())
    }

    fn begin_batch(&mut self, start: u64) {
        let codec = RecordCodec::new(SegmentId {
            log: self.log,
            sequence: self.active.sequence,
        });
        self.batch.begin(codec, self.next_batch, start);
        self.metrics.set_segments(self.ledger.segments());
    }

    fn make_segment(&mut self, sequence: u64, capacity: u64) -> Result<Segment, LogFailure> {
        let mut maker = SegmentMaker {
            disk: self.disk.as_ref(),
            config: &self.config,
            log: self.log,
            spares: &mut self.spares,
            next_spare: &mut self.next_spare,
        };
        maker.make(sequence, capacity)
    }

    /// Releases the segments before the horizon, which is durable.
    fn recycle(&mut self) -> Result<(), LogFailure> {
        let mut free = Vec::new();
        while let Some(sequence) = self.ledger.pop_before(self.horizon) {
            free.push(sequence);
        }
        self.recycle_all(&free)
    }

    fn recycle_all(&mut self, free: &[u64]) -> Result<(), LogFailure> {
        let disk = Arc::clone(&self.disk);
        let fail = |operation, name: &str, error| failure(disk.as_ref(), operation, name, error);
        for sequence in free {
            let name = segment_name(*sequence);
            let size = disk.open(&name).and_then(|file| file.size());
            let size = size.map_err(|error| fail("open", &name, error))?;
            let fits = size == self.config.segment_bytes;
            if fits && self.spares.len() < self.config.max_recycled_segments {
                let spare = spare_name(self.next_spare);
                self.next_spare += 1;
                let renamed = disk.rename(&name, &spare);
                renamed.map_err(|error| fail("rename", &name, error))?;
                self.spares.push(Spare {
                    name: spare,
                    recycled: true,
                });
            } else {
                disk.remove(&name)
                    .map_err(|error| fail("remove", &name, error))?;
            }
            self.metrics.observe_recycled();
        }
        // Before a spare gets a new header, the removal of its old name must be durable.
        if !free.is_empty() && self.config.sync == SyncMode::Data {
            disk.sync_dir().map_err(|error| fail("sync", "", error))?;
        }
        self.metrics.set_segments(self.ledger.segments());
        Ok(())
    }
}

/// Makes the recovered end of the log durable. The previous process may have ended between write
/// and sync, or after a failed sync, which makes the kernel treat pages as clean although they
/// never reached the disk. Writing the same bytes again makes the pages dirty.
fn secure_end(disk: &dyn Disk, last: Option<&LastBatch>) -> Result<(), OpenError> {
    if let Some(last) = last {
        let name = segment_name(last.sequence);
        let rewrite = || {
            let file = disk.open(&name)?;
            file.write_at(last.start, &mut [io::IoSlice::new(&last.bytes)])?;
            file.sync()
        };
        rewrite()
            .map_err(|error| OpenError::io("sync", format!("{}/{name}", disk.describe()), error))?;
    }
    let synced = disk.sync_dir();
    synced.map_err(|error| OpenError::io("sync", disk.describe(), error))
}
