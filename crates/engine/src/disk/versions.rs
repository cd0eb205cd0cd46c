//! Lets go of what no open snapshot needs.
//!
//! fjall keeps, for a space, every version since the oldest open snapshot, and each version keeps
//! its write buffers: with one snapshot open for a minute, a minute's writes would stay in memory.
//! A snapshot needs just one version, the last before it.

use fjall::{AbstractTree, Keyspace};

use super::snapshot::OpenSnapshots;

impl OpenSnapshots {
    /// Drops the versions of a space that no open snapshot reads from.
    ///
    /// fjall drops versions from the front of their list and deletes the file of each. A restart
    /// begins with the file of the latest version, so the list must not hold that version twice
    /// when fjall looks at it. In here it does for a moment, while it is put behind those before
    /// it.
    pub(super) fn drop_unused_versions(&self, keyspace: &Keyspace) -> Result<(), fjall::Error> {
        // The latest one, and one that a snapshot reads from.
        if keyspace.tree.version_free_list_len() < 2 {
            return Ok(());
        }
        // First the versions: a flush may hold them while it syncs a file, and no snapshot should
        // wait for that. Then the snapshots: none is opened meanwhile.
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
                // A file could not be deleted. Its version goes all the same.
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
            // Drops the first copy of the latest version, without its file.
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

    /// Waits until all but the last write buffer are on disk.
    fn flushed(engine: &DiskEngine) {
        while engine.shared.most_sealed() > 0 {
            std::thread::yield_now();
        }
    }

    /// Rows of the history, and the newest one's number.
    fn read(snapshot: &Arc<dyn Snapshot>) -> (usize, Option<Bytes>) {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows = snapshot.scan(Space::History, all, Direction::Forward);
        let newest = snapshot.get(Space::Latest, b"newest").unwrap();
        (rows.map(Result::unwrap).count(), newest)
    }

    #[test]
    fn open_snapshots_keep_what_they_read_and_not_what_was_written_since() {
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
        // What the snapshots and the present need: a buffer each, and it grows while another is
        // flushed.
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
    fn a_restart_finds_the_latest_version_after_snapshots_have_come_and_gone() {
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
        // As fjall does it for all spaces when it flushes any.
        let folder = history.path();
        let mut versions = history.tree.get_version_history_lock();
        versions.maintenance(folder, u64::MAX).unwrap();
        drop(versions);
        let latest = history.tree.current_version().id();
        assert!(folder.join(format!("v{latest}")).exists());
        // Nothing is left of the versions in between.
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
