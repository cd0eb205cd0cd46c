//! The log with its threads: completions, back-pressure, failure and closing.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use synod_consensus_core::Write;
use synod_log::{
    CompletionSink, Log, LogConfig, LogError, LogFailure, OpenError, SimDisk, first_writes,
};
use synod_types::{GroupId, WriteSeq};

use crate::model::{HEADER_BYTES, Model, Op, SEGMENT_BYTES, entry, start};

/// Collects the log's reports, and waits for them.
#[derive(Default)]
struct Reports {
    seen: Mutex<Vec<Report>>,
    more: Condvar,
}

#[derive(Clone, Debug, PartialEq)]
enum Report {
    Persisted(u64, u64),
    Failed(String),
}

impl Reports {
    fn wait_for(&self, count: usize) -> Vec<Report> {
        let mut seen = self.seen.lock();
        self.more.wait_while(&mut seen, |seen| seen.len() < count);
        seen.clone()
    }

    fn add(&self, report: Report) {
        self.seen.lock().push(report);
        self.more.notify_all();
    }
}

impl CompletionSink for Reports {
    fn persisted(&self, group: GroupId, seq: WriteSeq) {
        self.add(Report::Persisted(group.get(), seq.get()));
    }

    fn failed(&self, error: LogFailure) {
        self.add(Report::Failed(error.to_string()));
    }
}

fn small(dir: std::path::PathBuf) -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        max_pending_bytes: 10_000,
        ..LogConfig::new(dir)
    }
}

fn on_sim_disk() -> (SimDisk, Log, Arc<Reports>) {
    let disk = SimDisk::new();
    let reports = Arc::new(Reports::default());
    let sink: Arc<dyn CompletionSink> = Arc::<Reports>::clone(&reports);
    let shared = Arc::new(disk.clone());
    let (log, _) = Log::open_on(shared, &small("unused".into()), Arc::default(), sink).unwrap();
    (disk, log, reports)
}

fn append(log: &Log, group: u64, seq: u64, data: impl Into<Bytes>) -> Result<(), LogError> {
    let writes = vec![Write::Put(entry(seq, 1, data))];
    log.append(GroupId::new(group), WriteSeq::new(seq), writes)
}

#[test]
fn appends_during_a_sync_share_the_next_one_and_complete_in_order() {
    let (disk, log, reports) = on_sim_disk();
    disk.hang(true);
    append(&log, 1, 1, "first").unwrap();
    disk.wait_until_hanging();
    for seq in 2..=50 {
        append(&log, 1 + seq % 3, seq, "more").unwrap();
    }
    log.append(GroupId::new(9), WriteSeq::new(51), Vec::new())
        .unwrap();
    let (writes, syncs) = (disk.writes(), disk.syncs());
    disk.hang(false);
    let seen = reports.wait_for(51);
    let mut expected = vec![Report::Persisted(1, 1)];
    expected.extend((2..=50).map(|seq| Report::Persisted(1 + seq % 3, seq)));
    expected.push(Report::Persisted(9, 51));
    assert_eq!(seen, expected);
    // The sync that was in flight, one for all the others, and perhaps a mark if the log was idle
    // for long enough.
    let (written, synced) = (disk.writes() - writes, disk.syncs() - syncs);
    assert!(
        matches!((written, synced), (1, 2) | (2, 3)),
        "{written} writes, {synced} syncs"
    );
    assert_eq!(log.metrics().pending_bytes, 0);
}

#[test]
fn a_full_queue_returns_the_writes() {
    let (disk, log, reports) = on_sim_disk();
    disk.hang(true);
    append(&log, 1, 1, vec![0; 6000]).unwrap();
    append(&log, 1, 2, vec![0; 6000]).unwrap();
    assert!(!log.has_room());
    let refused = append(&log, 1, 3, "three").unwrap_err();
    let LogError::Full {
        writes,
        max_pending_bytes: 10_000,
        ..
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!(writes, [Write::Put(entry(3, 1, "three"))]);
    disk.hang(false);
    reports.wait_for(2);
    assert!(log.has_room());
    append(&log, 1, 3, "three").unwrap();
    assert_eq!(reports.wait_for(3)[2], Report::Persisted(1, 3));
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    let (disk, log, reports) = on_sim_disk();
    append(&log, 1, 1, "one").unwrap();
    reports.wait_for(1);
    disk.fail_sync_after(0);
    disk.hang(true);
    append(&log, 1, 2, "two").unwrap();
    disk.wait_until_hanging();
    append(&log, 1, 3, "three").unwrap();
    disk.hang(false);
    let seen = reports.wait_for(2);
    assert_eq!(seen[0], Report::Persisted(1, 1));
    assert!(
        matches!(&seen[1], Report::Failed(text) if text.contains("injected")),
        "{seen:?}"
    );
    assert!(matches!(
        append(&log, 1, 4, "four"),
        Err(LogError::Failed(_))
    ));
    assert!(matches!(
        log.release(GroupId::new(1), start(1)),
        Err(LogError::Failed(_))
    ));
    assert!(matches!(log.close(), Err(LogError::Failed(_))));
    assert_eq!(reports.wait_for(2).len(), 2);
}

#[test]
fn a_real_directory_survives_restarts_and_is_locked_while_open() {
    let dir = tempfile::tempdir().unwrap();
    let reports = Arc::new(Reports::default());
    let open = || {
        let sink: Arc<dyn CompletionSink> = Arc::<Reports>::clone(&reports);
        Log::open(small(dir.path().join("log")), sink)
    };
    let mut model = Model::default();
    let group = GroupId::new(1);
    let (log, recovered) = open().unwrap();
    assert!(recovered.created && recovered.groups.is_empty());
    log.bootstrap(group, start(0)).unwrap();
    let again = log.bootstrap(group, start(0));
    assert!(matches!(again, Err(LogError::GroupExists { .. })));
    for write in first_writes(start(0)) {
        model.apply(group, &Op::Write(write));
    }
    assert!(matches!(open(), Err(OpenError::Locked { .. })));

    let mut log = log;
    for round in 0..5 {
        for seq in round * 40 + 1..=round * 40 + 40 {
            append(&log, 1, seq, vec![5; 1000]).unwrap();
            model.apply(group, &Op::Write(Write::Put(entry(seq, 1, vec![5; 1000]))));
            reports.wait_for(usize::try_from(seq).unwrap());
        }
        let released = start(round * 40 + 30);
        log.release(group, released.clone()).unwrap();
        model.apply(group, &Op::Release(released));
        log.close().unwrap();
        assert!(matches!(append(&log, 1, 1, "late"), Err(LogError::Closed)));
        let (next, recovered) = open().unwrap();
        assert_eq!(Model::from(&recovered), model, "round {round}");
        assert!(!recovered.created && recovered.torn.is_none());
        log = next;
    }
    let seen = log.metrics();
    assert!(seen.segments <= 3, "{seen:?}");
    log.forget(group).unwrap();
    drop(log);
    assert!(open().unwrap().1.groups.is_empty());
}

#[test]
fn after_an_orderly_stop_damage_to_the_last_write_is_detected() {
    let (disk, log, reports) = on_sim_disk();
    append(&log, 1, 1, vec![7; 100]).unwrap();
    reports.wait_for(1);
    drop(log);
    let name = "0000000000000001.seg";
    let mut contents = disk.contents(name);
    contents[HEADER_BYTES + 90] ^= 1;
    disk.put_contents(name, contents);
    assert!(matches!(
        crate::model::open(&disk),
        Err(OpenError::Corrupt { .. })
    ));
}
