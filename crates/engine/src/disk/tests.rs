use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use super::*;

fn open(dir: &Path) -> Result<DiskEngine, EngineError> {
    DiskEngine::open(DiskConfig::new(dir))
}

fn put(engine: &DiskEngine, number: u64) {
    let mut batch = Batch::new();
    let key = Bytes::from(format!("key-{number:05}"));
    batch.put(Space::Latest, key, Bytes::from(vec![7; 100]));
    let number = Bytes::copy_from_slice(&number.to_be_bytes());
    batch.put(Space::Meta, Bytes::from_static(b"applied"), number);
    engine.write(batch).unwrap();
}

/// The last applied number. Asserts that the rows match it.
fn applied(engine: &DiskEngine) -> u64 {
    let snapshot = engine.snapshot();
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let rows = snapshot
        .scan(Space::Latest, all, crate::Direction::Forward)
        .count();
    let number = snapshot.get(Space::Meta, b"applied").unwrap();
    let number = number.map_or(0, |n| u64::from_be_bytes(n[..].try_into().unwrap()));
    assert_eq!(number, rows as u64);
    number
}

/// Copies an open engine's files: the state that a killed process leaves.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn journal(dir: &Path) -> PathBuf {
    dir.join(DATABASE_FOLDER).join("0.jnl")
}

/// Where the journal's content ends.
fn journal_end(path: &Path) -> u64 {
    let content = fs::read(path).unwrap();
    content.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

#[test]
fn content_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("e")).unwrap();
    (1..=100).for_each(|number| put(&engine, number));
    drop(engine);
    let engine = open(&dir.path().join("e")).unwrap();
    assert_eq!(applied(&engine), 100);
    put(&engine, 101);
    drop(engine);
    assert_eq!(applied(&open(&dir.path().join("e")).unwrap()), 101);
}

#[test]
fn a_killed_process_leaves_only_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("e")).unwrap();
    (1..=50).for_each(|number| put(&engine, number));
    engine.persist().unwrap();
    (51..=100).for_each(|number| put(&engine, number));
    copy(&dir.path().join("e"), &dir.path().join("killed"));
    assert_eq!(applied(&open(&dir.path().join("killed")).unwrap()), 100);
}

#[test]
fn a_truncated_journal_loses_only_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("e")).unwrap();
    (1..=50).for_each(|number| put(&engine, number));
    engine.persist().unwrap();
    let persisted_end = journal_end(&journal(&dir.path().join("e")));
    (51..=60).for_each(|number| put(&engine, number));
    let end = journal_end(&journal(&dir.path().join("e")));
    for cut in persisted_end..=end {
        let case = dir.path().join(format!("cut-{cut}"));
        if cut % 37 == 0 || cut == end {
            copy(&dir.path().join("e"), &case);
            let file = OpenOptions::new().write(true).open(journal(&case)).unwrap();
            file.set_len(cut).unwrap();
            let found = applied(&open(&case).unwrap());
            assert!((50..=60).contains(&found), "{found} at {cut}");
            assert_eq!(found == 60, cut == end);
        }
    }
}

#[test]
fn damage_after_the_last_persist_is_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("e")).unwrap();
    (1..=50).for_each(|number| put(&engine, number));
    engine.persist().unwrap();
    let persisted_end = journal_end(&journal(&dir.path().join("e")));
    (51..=60).for_each(|number| put(&engine, number));
    let end = journal_end(&journal(&dir.path().join("e")));
    for offset in (persisted_end..end).step_by(61) {
        let case = dir.path().join(format!("flip-{offset}"));
        copy(&dir.path().join("e"), &case);
        flip(&journal(&case), offset);
        let found = applied(&open(&case).unwrap());
        assert!((50..60).contains(&found), "{found} at {offset}");
    }
}

#[test]
fn damage_before_the_last_persist_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("e")).unwrap();
    (1..=50).for_each(|number| put(&engine, number));
    engine.persist().unwrap();
    let end = journal_end(&journal(&dir.path().join("e")));
    for offset in (0..end).step_by(997) {
        let case = dir.path().join(format!("flip-{offset}"));
        copy(&dir.path().join("e"), &case);
        flip(&journal(&case), offset);
        for _ in 0..2 {
            let error = open(&case).unwrap_err();
            assert!(
                matches!(error, EngineError::Corrupt { .. }),
                "{error} at {offset}"
            );
        }
    }
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("e")).unwrap();
    let error = open(&dir.path().join("e")).unwrap_err();
    assert!(matches!(error, EngineError::Locked { .. }), "{error}");
    let snapshot = engine.snapshot();
    drop(engine);
    drop(snapshot);
    open(&dir.path().join("e")).unwrap();
}

#[test]
fn foreign_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    for result in [
        open(dir.path()).map(|_| ()),
        DiskEngine::destroy(dir.path()),
        open(&dir.path().join("letter.txt")).map(|_| ()),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, EngineError::Foreign { .. }), "{error}");
    }
    let newer = dir.path().join("newer");
    fs::create_dir(&newer).unwrap();
    fs::write(newer.join("engine.format"), "synod-engine 9\n").unwrap();
    let error = open(&newer).unwrap_err();
    assert!(error.to_string().contains("synod-engine 9"), "{error}");
    assert!(dir.path().join("letter.txt").exists());
}

#[test]
fn destroyed_directories_can_be_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e");
    let engine = open(&path).unwrap();
    put(&engine, 1);
    drop(engine);
    DiskEngine::destroy(&path).unwrap();
    assert!(!path.exists());
    DiskEngine::destroy(&path).unwrap();
    assert_eq!(applied(&open(&path).unwrap()), 0);
}

#[test]
fn an_empty_engine_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("e")).unwrap();
    assert!(engine.disk_bytes() < 32 << 10, "{}", engine.disk_bytes());
    let stats = engine.stats();
    assert_eq!((stats.journals, stats.level0_runs), (1, 0));
}

#[test]
fn journals_are_deleted_while_a_space_is_idle() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = DiskConfig::new(dir.path().join("e"));
    config.memtable_bytes = 4 << 20;
    let engine = DiskEngine::open(config).unwrap();
    let mut batch = Batch::new();
    batch.put(Space::Members, Bytes::from_static(b"m"), Bytes::new());
    engine.write(batch).unwrap();
    let value = Bytes::from(vec![1; 1 << 20]);
    for number in 0..640_u32 {
        let mut batch = Batch::new();
        let key = Bytes::copy_from_slice(&(number % 16).to_be_bytes());
        batch.put(Space::Latest, key, value.clone());
        engine.write(batch).unwrap();
    }
    let stats = engine.stats();
    assert!(stats.journals < 8, "{stats:?}");
    let row = engine.snapshot().get(Space::Members, b"m").unwrap();
    assert!(row.is_some());
}
