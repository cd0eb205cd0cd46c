//! Removes overwritten versions of rows from write buffers.
//!
//! fjall keeps each version of a row until its write buffer is flushed, and a scan steps over all
//! of them. A row that is written again and again, such as the key of a lock, may have thousands of
//! versions, and each scan over it would be slow. But the open snapshots read only a few of them.

use std::ops::Bound;

use fjall::{AbstractTree, Keyspace};
use lsm_tree::{InternalValue, ValueType};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Spaces;
use super::snapshot::OpenSnapshots;
use crate::{BatchOp, Space};

/// A row's old versions are removed after this many writes of it.
const WRITES: u32 = 8;

/// These writes must be among so many of all rows. A removal costs a microsecond per version, and
/// only a row with a large share of the writes has many versions in one buffer.
const AMONG: u32 = 4096;

/// How many rows are counted at once.
const SLOTS: usize = 16 << 10;

/// Counts the writes of recently written rows. Two rows that share a slot hide each other: some old
/// versions then stay longer.
pub(super) struct Overwrites {
    slots: Box<[Slot]>,
    /// Counted writes of all rows. It wraps around.
    all_writes: u32,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// Part of the row's hash.
    tag: u32,
    writes: u32,
    /// The value of `all_writes` at the first of these writes.
    since: u32,
}

/// A row whose old versions are to be removed.
pub(super) struct Hot {
    space: Space,
    key: bytes::Bytes,
}

impl Default for Overwrites {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS].into(),
            all_writes: 0,
        }
    }
}

impl Overwrites {
    /// Counts the writes of a batch. Returns the rows that were written often.
    pub(super) fn count(&mut self, ops: &[BatchOp]) -> SmallVec<[Hot; 4]> {
        let mut hot = SmallVec::new();
        for op in ops.iter().filter(|op| is_overwritten(op.space)) {
            let hash = xxh3_64_with_seed(&op.key, u64::from(op.space.number()));
            let (tag, low) = ((hash >> 32) as u32, (hash & 0xffff) as u16);
            let slot = &mut self.slots[usize::from(low) % SLOTS];
            let now = self.all_writes;
            self.all_writes = now.wrapping_add(1);
            if slot.tag != tag || now.wrapping_sub(slot.since) > AMONG {
                *slot = Slot {
                    tag,
                    writes: 0,
                    since: now,
                };
            }
            slot.writes += 1;
            if slot.writes == WRITES {
                slot.writes = 0;
                hot.push(Hot {
                    space: op.space,
                    key: op.key.clone(),
                });
            }
        }
        hot
    }
}

/// Whether rows of this space are written more than once. Rows of the others have revisions in
/// their keys.
fn is_overwritten(space: Space) -> bool {
    !matches!(space, Space::History | Space::Revisions)
}

/// Removes the versions of rows that no open snapshot reads from the active write buffers. The
/// caller holds the write lock, and has applied its batch.
pub(super) fn remove_unread(hot: &[Hot], spaces: &Spaces, snapshots: &OpenSnapshots) {
    for row in hot {
        remove_unread_versions(&spaces[row.space.index()], &row.key, snapshots);
    }
}

/// The buffer may be flushed meanwhile. The flush then sees some of the removed versions, which the
/// newer ones in the same buffer still hide.
fn remove_unread_versions(keyspace: &Keyspace, key: &[u8], snapshots: &OpenSnapshots) {
    let buffer = keyspace.tree.active_memtable();
    // Versions are ordered from the newest to the oldest.
    let newest = InternalValue::from_components(key, [], u64::MAX, ValueType::Value).key;
    let from_newest = (Bound::Included(newest), Bound::Unbounded);
    let mut newer = None;
    for entry in buffer.items.range(from_newest) {
        let version = entry.key();
        if version.user_key != key {
            break;
        }
        let sequence = version.seqno;
        // A snapshot reads the newest version that is older than the snapshot.
        if let Some(newer) = newer
            && !snapshots.has_between(sequence + 1, newer)
        {
            entry.remove();
        } else {
            newer = Some(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{Batch, Direction, DiskConfig, DiskEngine, Engine, Snapshot};

    fn open(dir: &tempfile::TempDir) -> DiskEngine {
        DiskEngine::open(DiskConfig::new(dir.path().join("engine"))).unwrap()
    }

    fn write(engine: &DiskEngine, key: &'static str, value: Option<u64>) {
        let mut batch = Batch::new();
        let key = Bytes::from_static(key.as_bytes());
        match value {
            Some(value) => batch.put(Space::Latest, key, Bytes::from(value.to_string())),
            None => batch.delete(Space::Latest, key),
        }
        engine.write(batch).unwrap();
    }

    fn versions(engine: &DiskEngine) -> usize {
        let latest = &engine.shared.spaces[Space::Latest.index()];
        latest.tree.active_memtable().items.iter().count()
    }

    /// All rows, read by a scan, which must agree with single reads.
    fn rows(snapshot: &dyn Snapshot) -> Vec<(Bytes, Bytes)> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows = snapshot.scan(Space::Latest, all, Direction::Forward);
        let rows: Vec<_> = rows.map(Result::unwrap).collect();
        for (key, value) in &rows {
            let single = snapshot.get(Space::Latest, key).unwrap();
            assert_eq!(single.as_ref(), Some(value));
        }
        rows
    }

    #[test]
    fn a_row_that_is_written_often_has_few_versions() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(&dir);
        for round in 0..1_000 {
            write(&engine, "a", Some(round));
            write(&engine, "b", Some(round));
            write(&engine, "b", None);
        }
        let few = 2 * WRITES as usize;
        assert!(versions(&engine) <= few, "{}", versions(&engine));
        drop(engine);
        let engine = open(&dir);
        assert_eq!(rows(&*engine.snapshot()), [("a".into(), "999".into())]);
    }

    #[test]
    fn an_open_snapshot_keeps_only_the_version_that_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(&dir);
        let mut snapshots = Vec::new();
        for round in 0..400 {
            write(&engine, "a", Some(round));
            if round % 100 == 50 {
                snapshots.push((round, engine.snapshot()));
            }
        }
        let few = snapshots.len() + WRITES as usize;
        assert!(versions(&engine) <= few, "{}", versions(&engine));
        for (round, snapshot) in &snapshots {
            let expected = ("a".into(), round.to_string().into());
            assert_eq!(rows(&**snapshot), [expected]);
        }
    }

    #[test]
    fn rows_that_are_rarely_written_are_left_alone() {
        let mut overwrites = Overwrites::default();
        let mut hot = |rows: u32, rounds: u32| {
            let mut found = 0;
            for _ in 0..rounds {
                for row in 0..rows {
                    let mut batch = Batch::new();
                    batch.delete(Space::Latest, Bytes::from(row.to_be_bytes().to_vec()));
                    found += overwrites.count(batch.ops()).len();
                }
            }
            found
        };
        assert_eq!(hot(1_000, 30), 0);
        assert_eq!(hot(10, WRITES * 10), 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn snapshots_read_what_they_read_before(
            steps in prop::collection::vec((0_u8..10, 0_usize..3), 0..400)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let engine = open(&dir);
            let mut snapshots = Vec::new();
            for (number, (step, at)) in (0..).zip(steps) {
                match step {
                    0 if !snapshots.is_empty() => {
                        snapshots.swap_remove(at % snapshots.len());
                    }
                    1 => {
                        let snapshot = engine.snapshot();
                        snapshots.push((rows(&*snapshot), snapshot));
                    }
                    2 => write(&engine, ["a", "b", "c"][at], None),
                    _ => write(&engine, ["a", "b", "c"][at], Some(number)),
                }
            }
            for (expected, snapshot) in &snapshots {
                prop_assert_eq!(&rows(&**snapshot), expected);
            }
        }
    }
}
