//! Drops versions that no open snapshot reads.
//!
//! fjall keeps every version of a space since the oldest open snapshot, and each version holds its
//! write buffers. With one snapshot open for a minute, a minute of writes would stay in memory. But
//! a snapshot needs only one version: the last one before it.

use fjall::{AbstractTree, Keyspace};

use super::snapshot::OpenSnapshots;

impl OpenSnapshots {
    /// Drops the versions of a space that no open snapshot reads.
    ///
    /// fjall drops versions from the front of its list and deletes each one's file. A restart loads
    /// the file of the latest version, so fjall must never find that version in the list twice.
    /// This function adds it twice for a moment, under the lock, in order to move the versions that
    /// are still needed in front of it.
    pub(super) fn drop_unused_versions(&self, keyspace: &Keyspace) -> Result<(), fjall::Error> {
        // The list holds at most the latest version and one that a snapshot reads.
        if keyspace.tree.version_free_list_len() < 2 {
            return Ok(());
        }
        // Lock order: versions, then snapshots. A flush may hold the version lock while it syncs a
        // file, and opening a snapshot should not wait for that. No snapshot is opened while both
        // are held.
        let mut versions = keyspace.tree.get_version_history_lock();
        let open = self.lock();
        let Some(oldest) = open.keys().next().copied().filter(|oldest| *oldest > 0) else {
            return Ok(());
        };
        if versions.len() <= open.len() + 1 {
            return Ok(());
        }
        let folder = keyspace.path();
        let no_folder = folder.join("none");
        let (mut needed, mut result) = (Vec::new(), Ok(()));
        for sequence in open.keys().chain([&u64::MAX]) {
            let before = versions.len();
            let dropped = versions.maintenance(folder, *sequence);
            if dropped.is_err() {
                // A file could not be deleted. Drop its version anyway.
                result = result.and(dropped);
                versions.maintenance(&no_folder, *sequence)?;
            }
            if versions.len() == 1 {
                break;
            }
            if needed.is_empty() || versions.len() < before {
                needed.push(versions.get_version_for_snapshot(*sequence));
            }
        }
        if !needed.is_empty() {
            let latest = versions.latest_version();
            for version in needed {
                versions.append_version(version);
            }
            versions.append_version(latest);
            // Drops the first copy of the latest version but keeps its file.
            versions.maintenance(&no_folder, oldest)?;
        }
        Ok(result?)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;
    use std::sync::Arc;

    use bytes::Bytes;
    use fjall::AbstractTree as _;

    use crate::{Batch, Direction, DiskConfig, DiskEngine, Engine, Snapshot, Space};

    const VALUE_BYTES: usize = 16 << 10;
    const MEMTABLE_BYTES: u64 = 128 << 10;
    const ROWS: usize = 2_000;

    fn write(engine: &DiskEngine, rows: std::ops::Range<usize>) {
        for number in rows {
            engine.wait_for_room();
            let mut batch = Batch::new();
            let value = Bytes::from(vec![7; VALUE_BYTES]);
            batch.put(Space::History, Bytes::from(format!("h{number:04}")), value);
            let newest = Bytes::from(number.to_string());
            batch.put(Space::Latest, Bytes::from_static(b"newest"), newest);
            engine.write(batch).unwrap();
        }
    }

    fn open(dir: &tempfile::TempDir) -> DiskEngine {
        let mut config = DiskConfig::new(dir.path().join("engine"));
        config.memtable_bytes = MEMTABLE_BYTES;
        DiskEngine::open(config).unwrap()
    }

    /// Waits until all write buffers except the active one are on disk.
    fn flushed(engine: &DiskEngine) {
        while engine.shared.most_sealed() > 0 {
            std::thread::yield_now();
        }
    }

    /// The number of rows in the history, and the newest row's number.
    fn read(snapshot: &Arc<dyn Snapshot>) -> (usize, Option<Bytes>) {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows = snapshot.scan(Space::History, all, Direction::Forward);
        let newest = snapshot.get(Space::Latest, b"newest").unwrap();
        (rows.map(Result::unwrap).count(), newest)
    }

    #[test]
    fn open_snapshots_keep_only_the_versions_that_they_read() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(&dir);
        write(&engine, 0..3);
        let first = engine.snapshot();
        write(&engine, 3..100);
        let second = engine.snapshot();
        write(&engine, 100..ROWS);
        flushed(&engine);
        engine.shared.drop_unused_versions();
        let history = &engine.shared.spaces[Space::History.index()].tree;
        let kept = history.version_memtable_size_sum();
        // Each snapshot and the current state need one buffer each. The current one grows while
        // another is being flushed.
        let written = (ROWS * VALUE_BYTES) as u64;
        assert!(kept < written / 2, "{kept} of {written} bytes in memory");
        let expected = |rows: usize| (rows, Some(Bytes::from((rows - 1).to_string())));
        assert_eq!(read(&first), expected(3));
        assert_eq!(read(&second), expected(100));
        drop(first);
        write(&engine, ROWS..ROWS + 200);
        engine.wait_for_room();
        assert_eq!(read(&second), expected(100));
        assert_eq!(read(&engine.snapshot()), expected(ROWS + 200));
        drop(second);
        engine.wait_for_room();
        drop(engine);
        let engine = open(&dir);
        assert_eq!(read(&engine.snapshot()), expected(ROWS + 200));
    }

    #[test]
    fn a_restart_finds_the_latest_version_after_snapshots_were_closed() {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(&dir);
        write(&engine, 0..3);
        let old = engine.snapshot();
        write(&engine, 3..400);
        flushed(&engine);
        let newest = [engine.snapshot(), engine.snapshot()];
        let history = &engine.shared.spaces[Space::History.index()];
        for _ in 0..3 {
            engine.shared.drop_unused_versions();
        }
        drop(old);
        // fjall does this for all spaces when it flushes any.
        let folder = history.path();
        let mut versions = history.tree.get_version_history_lock();
        versions.maintenance(folder, u64::MAX).unwrap();
        drop(versions);
        let latest = history.tree.current_version().id();
        assert!(folder.join(format!("v{latest}")).exists());
        // The files of the versions in between are gone.
        let files = std::fs::read_dir(folder).unwrap();
        let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let versions: Vec<String> = names
            .filter(|name| {
                name.strip_prefix('v')
                    .is_some_and(|id| id.parse::<u64>().is_ok())
            })
            .collect();
        assert!(versions.len() <= 2, "{versions:?}");
        drop(newest);
        drop(engine);
        let engine = open(&dir);
        assert_eq!(read(&engine.snapshot()).0, 400);
    }
}
