//! Bit rot, truncation, missing, foreign and newer files. Each is refused or has no effect; damaged
//! data is never used.

use synod_log::{Crash, Disk, OpenError, SimDisk};

use crate::model::{HEADER_BYTES, Model, Work, commit, open, put, start};

const FIRST: &str = "0000000000000001.seg";
const SECOND: &str = "0000000000000002.seg";
const THIRD: &str = "0000000000000003.seg";

struct Sample {
    disk: SimDisk,
    whole: Model,
    /// The state without the last commit.
    before_last: Model,
}

/// Three segments, the third partly filled. With `marked`, as after an orderly stop.
fn sample(marked: bool) -> Sample {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let mut whole = Model::default();
    let mut before_last = Model::default();
    for index in 1..=26 {
        let work: Work = vec![put(1, index, vec![3; 900]), put(2, index, "small")];
        commit(&mut log, &work).unwrap();
        before_last = whole.clone();
        whole.apply_all(&work);
    }
    if marked {
        log.mark().unwrap();
    }
    disk.crash(Crash::Power(&mut |_| 0));
    Sample {
        disk,
        whole,
        before_last,
    }
}

fn restore(disk: &SimDisk, files: &[(String, Vec<u8>)]) {
    for name in disk.list().unwrap() {
        disk.remove_file(&name);
    }
    for (name, contents) in files {
        disk.put_contents(name, contents.clone());
    }
}

fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list().unwrap();
    names
        .into_iter()
        .map(|name| (name.clone(), disk.contents(&name)))
        .collect()
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_has_no_effect() {
    let sample = sample(true);
    let files = files(&sample.disk);
    assert_eq!(files.len(), 3);
    let mut refused = 0;
    for (name, contents) in &files {
        let header = (0..64).step_by(3);
        let records = (HEADER_BYTES..contents.len()).step_by(13);
        for at in header.chain(records) {
            restore(&sample.disk, &files);
            let mut damaged = contents.clone();
            damaged[at] ^= 1 << (at % 8);
            sample.disk.put_contents(name, damaged);
            match open(&sample.disk) {
                Ok((_, recovered)) => {
                    assert_eq!(Model::from(&recovered), sample.whole, "{name} at {at}");
                }
                Err(OpenError::Corrupt { file, offset, .. }) => {
                    assert_eq!(&file, name, "at {at}");
                    assert!(offset <= at as u64, "{offset} for {at}");
                    refused += 1;
                }
                Err(error) => panic!("{name} at {at}: {error}"),
            }
        }
    }
    assert!(refused > 2000, "{refused}");
}

#[test]
fn an_error_names_the_damaged_record() {
    let sample = sample(false);
    let mut damaged = sample.disk.contents(THIRD);
    // After the record header of that segment's second commit: its payload.
    let at = (HEADER_BYTES..damaged.len())
        .find(|at| damaged[*at..*at + 900] == [3; 900])
        .unwrap();
    damaged[at + 450] ^= 0x10;
    sample.disk.put_contents(THIRD, damaged);
    let error = open(&sample.disk).err().unwrap();
    let OpenError::Corrupt { offset, reason, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*offset, at as u64 - 80);
    assert!(
        reason.contains("payload of the Put record of group 1"),
        "{reason}"
    );
    let text = error.to_string();
    assert!(
        text.contains(THIRD) && text.contains("add it again with an empty data directory"),
        "{text}"
    );
}

#[test]
fn damage_to_an_unmarked_last_write_counts_as_an_interrupted_write() {
    let sample = sample(false);
    let contents = sample.disk.contents(THIRD);
    let end = contents.iter().rposition(|byte| *byte != 0).unwrap();
    let files = files(&sample.disk);
    for at in end - 1000..=end {
        restore(&sample.disk, &files);
        let mut damaged = contents.clone();
        damaged[at] ^= 1;
        sample.disk.put_contents(THIRD, damaged);
        let (mut log, recovered) = open(&sample.disk).unwrap();
        let mut first = sample.before_last.clone();
        first.apply_all(&vec![put(1, 26, vec![3; 900])]);
        let model = Model::from(&recovered);
        let padding = model == sample.whole;
        assert!(
            padding || model == sample.before_last || model == first,
            "at {at}"
        );
        assert!(padding || recovered.torn.unwrap().file == THIRD, "at {at}");
        // Truncated writes do not reappear.
        let work = vec![put(7, 1, "new")];
        commit(&mut log, &work).unwrap();
        sample.disk.crash(Crash::Power(&mut |_| 0));
        let mut expected = model;
        expected.apply_all(&work);
        assert_eq!(
            Model::from(&open(&sample.disk).unwrap().1),
            expected,
            "at {at}"
        );
    }
}

#[test]
fn truncated_records_do_not_reappear_after_a_shorter_write() {
    // Three records of one size in one write. The first is lost, the others reach the disk.
    let record = 80 + 16;
    for lost_first in [false, true] {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).unwrap();
        commit(&mut log, &vec![put(1, 1, vec![1; 16])]).unwrap();
        let work = (2..=4).map(|index| put(1, index, vec![2; 16])).collect();
        commit(&mut log, &work).unwrap();
        let mut contents = disk.contents(FIRST);
        let lost = HEADER_BYTES + if lost_first { record } else { 2 * record };
        contents[lost..lost + record].fill(0);
        disk.crash(Crash::Process);
        disk.put_contents(FIRST, contents);
        let (mut log, recovered) = open(&disk).unwrap();
        assert_eq!(recovered.torn.clone().unwrap().offset, lost as u64);
        // This write ends exactly where a valid record of the old write begins.
        let mut expected = Model::from(&recovered);
        let work = vec![put(9, 1, vec![9; 16])];
        commit(&mut log, &work).unwrap();
        expected.apply_all(&work);
        disk.crash(Crash::Process);
        let (mut log, recovered) = open(&disk).unwrap();
        assert_eq!(Model::from(&recovered), expected);
        commit(&mut log, &work).unwrap();
        disk.crash(Crash::Process);
        assert_eq!(Model::from(&open(&disk).unwrap().1), expected);
    }
}

#[test]
fn a_truncated_segment_is_refused() {
    for name in [FIRST, THIRD] {
        for keep in [0, 63, 4096, 9000, 16383] {
            let sample = sample(true);
            let mut contents = sample.disk.contents(name);
            contents.truncate(keep);
            sample.disk.put_contents(name, contents);
            let error = open(&sample.disk).err().unwrap();
            assert!(
                matches!(&error, OpenError::Corrupt { file, .. } if file == name),
                "{error}"
            );
        }
    }
}

#[test]
fn a_missing_segment_is_refused() {
    for (missing, file) in [(FIRST, FIRST), (SECOND, SECOND), (THIRD, THIRD)] {
        let sample = sample(true);
        sample.disk.remove_file(missing);
        let error = open(&sample.disk).err().unwrap();
        assert!(
            matches!(&error, OpenError::MissingSegment { file: named, .. } if named == file),
            "{missing}: {error}"
        );
    }
}

#[test]
fn released_segments_may_exist_or_not() {
    let sample = sample(true);
    let old = sample.disk.contents(FIRST);
    let (mut log, _) = open(&sample.disk).unwrap();
    let mut expected = sample.whole.clone();
    let work = [1, 2].map(|group| {
        let group = synod_types::GroupId::new(group);
        (group, crate::model::Op::Release(start(26)))
    });
    commit(&mut log, &work.to_vec()).unwrap();
    expected.apply_all(&work.to_vec());
    sample.disk.crash(Crash::Process);
    // As if a crash had undone the removal of the first segment but not of the second.
    sample.disk.put_contents(FIRST, old);
    assert!(sample.disk.contents(SECOND).is_empty());
    let (_, recovered) = open(&sample.disk).unwrap();
    assert_eq!(Model::from(&recovered), expected);
    assert!(
        sample.disk.contents(FIRST).is_empty(),
        "the leftover is released"
    );
}

#[test]
fn foreign_and_newer_segments_are_distinguished() {
    let sample = sample(true);
    let second = sample.disk.contents(SECOND);
    sample.disk.put_contents(FIRST, second.clone());
    let error = open(&sample.disk).err().unwrap();
    assert!(
        matches!(&error, OpenError::Foreign { file, .. } if file == FIRST),
        "{error}"
    );

    let sample = self::sample(true);
    let other = SimDisk::new();
    let id = 0xbad;
    let config = crate::model::config();
    let shared = std::sync::Arc::new(other.clone());
    drop(synod_log::LogCore::open(shared, config, id, Default::default()).unwrap());
    // Another log's segment among this log's.
    sample.disk.put_contents(SECOND, other.contents(FIRST));
    let error = open(&sample.disk).err().unwrap();
    assert!(
        matches!(&error, OpenError::Foreign { file, .. } if file == SECOND),
        "{error}"
    );

    let sample = self::sample(true);
    let mut newer = sample.disk.contents(SECOND);
    newer[8] = 2;
    let checksum = crc32c::crc32c(&newer[..60]);
    newer[60..64].copy_from_slice(&checksum.to_le_bytes());
    sample.disk.put_contents(SECOND, newer);
    let error = open(&sample.disk).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
}
