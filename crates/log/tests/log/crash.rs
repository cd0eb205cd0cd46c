//! Crashes the log at every disk operation, with every way of losing unsynced data.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_consensus_core::Write;
use synod_log::{Crash, LogCore, SimDisk};
use synod_types::GroupId;

use crate::model::{Model, Op, Style, Work, commit, entry, open};

/// Opens the log. Checks that it holds one of `allowed`, and that what it reports is durable.
fn reopen(
    disk: &SimDisk,
    allowed: &[Model],
    rng: &mut ChaCha8Rng,
    context: &str,
) -> (LogCore, Model) {
    let (mut log, recovered) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let style = allowed.first().map_or(Style::Raft, Model::style);
    let model = Model::from(&recovered).with(style);
    check(&model, allowed, context);
    // The core acts on recovered data, so it must not be lost any more.
    if rng.random_bool(0.5) {
        disk.crash(Crash::Power(&mut |n| rng.random_range(0..n)));
        let (again, recovered) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        let seen = Model::from(&recovered).with(style);
        assert_eq!(seen, model, "{context}: second restart");
        log = again;
    }
    (log, model)
}

fn check(model: &Model, allowed: &[Model], context: &str) {
    if !allowed.contains(model) {
        let allowed: Vec<String> = allowed.iter().map(Model::brief).collect();
        panic!(
            "{context}: {}\nallowed:\n{}",
            model.brief(),
            allowed.join("\n")
        );
    }
}

fn crash(disk: &SimDisk, rng: &mut ChaCha8Rng) {
    if rng.random_bool(0.3) {
        disk.crash(Crash::Process);
    } else {
        disk.crash(Crash::Power(&mut |n| rng.random_range(0..n)));
    }
}

/// Executes `work` until it fails. Afterwards every state from the last acknowledged to the last
/// requested one is allowed.
fn run(log: &mut LogCore, model: &Model, work: &[Work]) -> Vec<Model> {
    let mut allowed = vec![model.clone()];
    for step in work {
        let mut state = allowed.last().unwrap().clone();
        let failed = commit(log, step).is_err();
        if !failed {
            allowed.clear();
        }
        for (group, op) in step {
            state.apply(*group, op);
            allowed.push(state.clone());
        }
        if failed {
            assert!(commit(log, step).is_err(), "a failed log continued");
            return allowed;
        }
        let acknowledged = allowed.pop().unwrap();
        allowed = vec![acknowledged];
    }
    allowed
}

fn random_work(model: &Model, steps: usize, rng: &mut ChaCha8Rng) -> Vec<Work> {
    let mut model = model.clone();
    (0..steps).map(|_| model.random_work(rng)).collect()
}

#[test]
fn a_stop_at_each_operation_loses_no_acknowledged_write() {
    stop_at_each_operation(Style::Raft, 5);
}

#[test]
fn a_stop_at_each_operation_loses_no_accepted_slot() {
    stop_at_each_operation(Style::Paxos, 5);
}

fn stop_at_each_operation(style: Style, seeds: u64) {
    let empty = Model::of(style);
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let work = random_work(&empty, 60, &mut rng);
        let total = {
            let disk = SimDisk::new();
            let (mut log, _) = open(&disk).unwrap();
            run(&mut log, &empty, &work);
            disk.operations()
        };
        assert!(total > 150, "{total}");
        for stop in 0..total {
            let context = format!("seed {seed}, stop {stop}");
            let disk = SimDisk::new();
            let kept = rng.random_range(0..6000);
            disk.stop_at(
                stop,
                if rng.random_bool(0.3) {
                    kept / 50
                } else {
                    kept
                },
            );
            let allowed = match open(&disk) {
                Ok((mut log, _)) => run(&mut log, &empty, &work),
                Err(_) => vec![empty.clone()],
            };
            crash(&disk, &mut rng);
            reopen(&disk, &allowed, &mut rng, &context);
        }
    }
}

#[test]
fn repeated_crashes_lose_no_acknowledged_write() {
    repeated_crashes(Style::Raft, 300);
}

#[test]
fn repeated_crashes_lose_no_accepted_slot() {
    repeated_crashes(Style::Paxos, 200);
}

fn repeated_crashes(style: Style, seeds: u64) {
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + seed);
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).unwrap();
        let mut allowed = vec![Model::of(style)];
        for life in 0..12 {
            let context = format!("seed {seed}, life {life}");
            let steps = rng.random_range(0..30);
            let model = allowed.last().unwrap().clone();
            let work = random_work(&model, steps, &mut rng);
            match rng.random_range(0..4) {
                0 => disk.fail_sync_after(rng.random_range(0..20)),
                1 | 2 => {
                    let stop = disk.operations() + rng.random_range(0..60);
                    disk.stop_at(stop, rng.random_range(0..3000));
                }
                _ => {}
            }
            allowed = run(&mut log, &model, &work);
            if rng.random_bool(0.2) && allowed.len() == 1 {
                log.mark().ok();
            }
            crash(&disk, &mut rng);
            // A restart may be interrupted, too.
            for _ in 0..rng.random_range(0..3) {
                disk.stop_at(
                    disk.operations() + rng.random_range(0..5),
                    rng.random_range(0..500),
                );
                if let Ok((_, recovered)) = open(&disk) {
                    let model = Model::from(&recovered).with(style);
                    check(&model, &allowed, &context);
                    allowed = vec![model];
                }
                crash(&disk, &mut rng);
            }
            let (again, model) = reopen(&disk, &allowed, &mut rng, &context);
            log = again;
            allowed = vec![model];
        }
    }
}

/// An acceptor that accepted a slot again must not revert to the earlier value, nor lose the slots
/// around it: a proposer may have counted both.
#[test]
fn a_torn_second_accept_keeps_the_neighbouring_slots() {
    let put = |index, round| {
        let write = Write::Put(entry(index, round, vec![7; 900]));
        (GroupId::new(1), Op::Write(write))
    };
    let first: Work = [5, 1, 9, 3].map(|index| put(index, 1)).into();
    let again: Work = [put(3, 2), put(9, 3), put(4, 2)].into();
    for seed in 0..500 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).unwrap();
        commit(&mut log, &first).unwrap();
        let mut allowed = vec![Model::default()];
        allowed[0].apply_all(&first);
        for (group, op) in &again {
            let mut next = allowed.last().unwrap().clone();
            next.apply(*group, op);
            allowed.push(next);
        }
        // Stops within the write of the second batch.
        disk.stop_at(disk.operations(), rng.random_range(0..3200));
        assert!(commit(&mut log, &again).is_err());
        crash(&disk, &mut rng);
        reopen(&disk, &allowed, &mut rng, &format!("seed {seed}"));
    }
}

#[test]
fn a_failed_sync_is_final_and_its_data_is_rewritten_after_a_restart() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let first = vec![crate::model::put(1, 1, "first")];
    let second = vec![crate::model::put(1, 2, "second")];
    commit(&mut log, &first).unwrap();
    disk.fail_sync_after(0);
    let error = commit(&mut log, &second).unwrap_err().to_string();
    assert!(error.contains("0000000000000001.seg"), "{error}");
    let writes = disk.writes();
    assert!(commit(&mut log, &second).is_err());
    assert!(log.mark().is_err());
    assert_eq!(disk.writes(), writes, "written after a failed sync");
    // The page cache still has the data, and the kernel considers it clean.
    disk.crash(Crash::Process);
    let (_, recovered) = open(&disk).unwrap();
    let seen = Model::from(&recovered);
    let mut expected = Model::default();
    expected.apply_all(&first);
    expected.apply_all(&second);
    assert_eq!(seen, expected);
    // It was returned to the caller, so it must be durable now.
    disk.crash(Crash::Power(&mut |_| 0));
    assert_eq!(Model::from(&open(&disk).unwrap().1), expected);
}
