//! Crashes at every operation on the disk, with every way of losing what was not synced.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_log::{Crash, LogCore, SimDisk};

use crate::model::{Model, Work, commit, open};

/// Opens the log and checks that it holds one of `allowed`, and that what it says it holds is durable.
fn reopen(
    disk: &SimDisk,
    allowed: &[Model],
    rng: &mut ChaCha8Rng,
    context: &str,
) -> (LogCore, Model) {
    let (mut log, recovered) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let model = Model::from(&recovered);
    check(&model, allowed, context);
    // The core acts on what was recovered, so it must not be lost any more.
    if rng.random_bool(0.5) {
        disk.crash(Crash::Power(&mut |n| rng.random_range(0..n)));
        let (again, recovered) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(Model::from(&recovered), model, "{context}: second restart");
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

/// Runs `work` until it fails. Every state from the one that was acknowledged last to the one that was
/// asked for last is allowed afterwards.
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
            assert!(commit(log, step).is_err(), "a failed log went on");
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
fn a_stop_at_each_operation_loses_nothing_that_was_acknowledged() {
    for seed in 0..5 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let work = random_work(&Model::default(), 60, &mut rng);
        let total = {
            let disk = SimDisk::new();
            let (mut log, _) = open(&disk).unwrap();
            run(&mut log, &Model::default(), &work);
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
                Ok((mut log, _)) => run(&mut log, &Model::default(), &work),
                Err(_) => vec![Model::default()],
            };
            crash(&disk, &mut rng);
            reopen(&disk, &allowed, &mut rng, &context);
        }
    }
}

#[test]
fn crash_after_crash_the_log_goes_on_from_where_it_was() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + seed);
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk).unwrap();
        let mut allowed = vec![Model::default()];
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
                    let model = Model::from(&recovered);
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

#[test]
fn a_failed_sync_is_final_and_not_believed_after_a_restart() {
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
    // The page cache still has it, and the kernel takes it for clean.
    disk.crash(Crash::Process);
    let (_, recovered) = open(&disk).unwrap();
    let seen = Model::from(&recovered);
    let mut expected = Model::default();
    expected.apply_all(&first);
    expected.apply_all(&second);
    assert_eq!(seen, expected);
    // Having been handed out, it must be durable now.
    disk.crash(Crash::Power(&mut |_| 0));
    assert_eq!(Model::from(&open(&disk).unwrap().1), expected);
}
