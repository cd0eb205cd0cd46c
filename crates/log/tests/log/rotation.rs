//! Filling, sealing, releasing and reusing segments, and counting commits.

use std::sync::Arc;

use synod_consensus_core::{HardState, Write};
use synod_log::{
    Crash, Disk, LogCore, LogCoreConfig, LogFailure, Metrics, OpenError, SimDisk, SyncMode,
    make_spare,
};
use synod_types::{Ballot, GroupId, Index};

use crate::model::{Model, Op, SEGMENT_BYTES, Work, commit, config, open, put, start};

fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".seg"));
    names.sort();
    names
}

fn hard_state(group: u64, round: u64) -> (GroupId, Op) {
    let state = HardState {
        ballot: Ballot::term(round),
        vote: None,
        commit: Index::new(round),
    };
    (GroupId::new(group), Op::Write(Write::HardState(state)))
}

fn release(group: u64, index: u64) -> (GroupId, Op) {
    (GroupId::new(group), Op::Release(start(index)))
}

/// A log with entries `from..=to` of group 1: one kilobyte and one commit each.
fn fill(log: &mut LogCore, model: &mut Model, from: u64, to: u64) {
    for index in from..=to {
        let byte = u8::try_from(index % 251).unwrap();
        let work = vec![put(1, index, vec![byte; 1000])];
        commit(log, &work).unwrap();
        model.apply_all(&work);
    }
}

#[test]
fn many_appends_are_one_write_and_one_sync() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let (writes, syncs) = (disk.writes(), disk.syncs());
    let work: Work = (1..=100).map(|i| put(i % 5, i, "x")).collect();
    commit(&mut log, &work).unwrap();
    assert_eq!((disk.writes(), disk.syncs()), (writes + 1, syncs + 1));
    commit(&mut log, &Vec::new()).unwrap();
    assert_eq!((disk.writes(), disk.syncs()), (writes + 1, syncs + 1));
    log.mark().unwrap();
    log.mark().unwrap();
    assert_eq!(disk.syncs(), syncs + 2);
}

#[test]
fn without_sync_no_commit_syncs() {
    let disk = SimDisk::new();
    let config = LogCoreConfig {
        sync: SyncMode::None,
        ..config()
    };
    let open = || LogCore::open(Arc::new(disk.clone()), config, 1, Arc::default()).unwrap();
    let (mut log, recovered) = open();
    assert!(recovered.created);
    let mut model = Model::default();
    fill(&mut log, &mut model, 1, 40);
    assert_eq!(disk.syncs(), 0);
    disk.crash(Crash::Process);
    assert_eq!(Model::from(&open().1), model);
}

#[test]
fn recycling_segments_loses_no_state() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    // Recorded only once, in a segment that will be released.
    let work = vec![
        (GroupId::new(2), Op::Write(Write::Reset(start(7)))),
        hard_state(2, 70),
        hard_state(1, 3),
    ];
    commit(&mut log, &work).unwrap();
    model.apply_all(&work);
    fill(&mut log, &mut model, 1, 40);
    assert_eq!(segments(&disk).len(), 4);
    let work = vec![release(1, 25)];
    commit(&mut log, &work).unwrap();
    model.apply_all(&work);
    assert_eq!(
        segments(&disk),
        ["0000000000000003.seg", "0000000000000004.seg"]
    );
    for round in 0..10 {
        disk.crash(Crash::Power(&mut |_| 0));
        let (again, recovered) = open(&disk).unwrap();
        assert_eq!(Model::from(&recovered), model, "round {round}");
        assert_eq!(recovered.torn, None, "round {round}");
        log = again;
        let from = 41 + round * 20;
        fill(&mut log, &mut model, from, from + 19);
        let work = vec![release(1, from + 5)];
        commit(&mut log, &work).unwrap();
        model.apply_all(&work);
        assert!(segments(&disk).len() <= 4, "{:?}", segments(&disk));
        assert!(disk.list().unwrap().len() <= 6);
    }
}

#[test]
fn stale_records_of_a_recycled_segment_are_ignored() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    fill(&mut log, &mut model, 1, 30);
    let work = vec![release(1, 30)];
    commit(&mut log, &work).unwrap();
    model.apply_all(&work);
    // Only a little, into the first recycled file.
    fill(&mut log, &mut model, 31, 36);
    let newest = segments(&disk).pop().unwrap();
    let stale = disk.contents(&newest);
    let old = (1..=30u8).filter(|byte| stale.windows(500).any(|window| window == vec![*byte; 500]));
    assert!(old.count() > 3, "there must be stale records for this test");
    disk.crash(Crash::Process);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(Model::from(&recovered), model);
    assert_eq!(recovered.torn, None);
}

#[test]
fn a_segment_stays_while_any_group_needs_it() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    let work = vec![put(2, 1, "needed")];
    commit(&mut log, &work).unwrap();
    model.apply_all(&work);
    fill(&mut log, &mut model, 1, 50);
    let work = vec![release(1, 50)];
    commit(&mut log, &work).unwrap();
    model.apply_all(&work);
    assert_eq!(segments(&disk).len(), 5);
    assert_eq!(log.pinned_by(), Some(GroupId::new(2)));
    let work = vec![(GroupId::new(2), Op::Forget)];
    commit(&mut log, &work).unwrap();
    model.apply_all(&work);
    assert_eq!(segments(&disk).len(), 1);
    assert_eq!(log.pinned_by(), None);
    disk.crash(Crash::Power(&mut |_| 0));
    assert_eq!(Model::from(&open(&disk).unwrap().1), model);
}

#[test]
fn thousands_of_groups_and_huge_entries_make_larger_segments() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    for group in 0..2000 {
        let work = vec![hard_state(group, group + 1), release(group, 5)];
        commit(&mut log, &work).unwrap();
        model.apply_all(&work);
    }
    let work = vec![put(1, 6, vec![7; 300_000]), put(1, 7, "after")];
    commit(&mut log, &work).unwrap();
    model.apply_all(&work);
    disk.crash(Crash::Power(&mut |_| 0));
    assert_eq!(Model::from(&open(&disk).unwrap().1), model);
}

#[test]
fn a_full_disk_is_reported_and_stops_the_log() {
    let disk = SimDisk::new();
    disk.set_room(Some(100));
    assert!(matches!(
        open(&disk),
        Err(OpenError::NoSpace {
            bytes: SEGMENT_BYTES,
            ..
        })
    ));
    disk.set_room(Some(3 * SEGMENT_BYTES));
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    let failure = (1..100).find_map(|index| {
        let work = vec![put(1, index, vec![1; 1000])];
        match commit(&mut log, &work) {
            Ok(()) => {
                model.apply_all(&work);
                None
            }
            Err(failure) => Some(failure),
        }
    });
    assert!(
        matches!(failure, Some(LogFailure::NoSpace { .. })),
        "{failure:?}"
    );
    assert!(matches!(
        commit(&mut log, &Vec::new()),
        Err(LogFailure::NoSpace { .. })
    ));
    disk.set_room(None);
    disk.crash(Crash::Process);
    let (mut log, recovered) = open(&disk).unwrap();
    assert_eq!(Model::from(&recovered), model);
    commit(&mut log, &vec![put(1, 900, "room again")]).unwrap();
}

#[test]
fn a_prepared_file_is_used_for_the_next_segment() {
    let disk = SimDisk::new();
    let metrics = Arc::new(Metrics::default());
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut log, _) =
        LogCore::open(Arc::clone(&shared), config(), 1, Arc::clone(&metrics)).unwrap();
    assert_eq!(log.wants_spare(), None);
    let mut model = Model::default();
    fill(&mut log, &mut model, 1, 9);
    let request = log.wants_spare().unwrap();
    assert!(make_spare(shared.as_ref(), &request, &|| true).is_err());
    make_spare(shared.as_ref(), &request, &|| false).unwrap();
    log.add_spare(request);
    assert_eq!(log.wants_spare(), None);
    disk.set_room(Some(2 * SEGMENT_BYTES));
    fill(&mut log, &mut model, 10, 15);
    assert_eq!(segments(&disk).len(), 2);
    let seen = metrics.snapshot();
    assert_eq!((seen.segments, seen.commits), (2, 15));
    assert!(
        seen.bytes_written > 15_000 && seen.records >= 17,
        "{seen:?}"
    );
    disk.crash(Crash::Power(&mut |_| 0));
    assert_eq!(Model::from(&open(&disk).unwrap().1), model);
}

#[test]
fn invalid_sizes_are_refused() {
    for segment_bytes in [0, 4096, SEGMENT_BYTES + 1, 1 << 40] {
        let config = LogCoreConfig {
            segment_bytes,
            ..config()
        };
        let result = LogCore::open(Arc::new(SimDisk::new()), config, 1, Arc::default());
        assert!(
            matches!(result, Err(OpenError::InvalidConfig { .. })),
            "{segment_bytes}"
        );
    }
}
