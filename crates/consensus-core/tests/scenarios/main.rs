//! Readable scenarios with exact outputs: what one core does with each input.
//!
//! Raft's are here, those of Multi-Paxos in `paxos`.
//!
//! Each `.txt` file has scenarios of inputs (`> ...`, or `>> ...` to let the core collect its
//! output), each followed by its complete output. `script.rs` lists the words. After an intended
//! change, run `SYNOD_BLESS=1 cargo test -p synod-consensus-core --test scenarios` and review the
//! difference.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod render;
mod script;

use std::path::Path;

use synod_consensus_core::Algorithm;

fn play(algorithm: Algorithm, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scenarios")
        .join(name);
    let expected = std::fs::read_to_string(&path).unwrap();
    let actual = script::play(algorithm, &expected);
    if option_env!("SYNOD_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    for (number, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(actual, expected, "{name}, line {}", number + 1);
    }
    assert_eq!(actual.len(), expected.len(), "{name}: the end");
}

macro_rules! scenarios {
    ($algorithm:ident in $folder:literal: $($name:ident),* $(,)?) => {
        $(#[test] fn $name() {
            let name = concat!($folder, stringify!($name), ".txt");
            super::play(super::Algorithm::$algorithm, name);
        })*
    };
}

mod raft {
    scenarios!(
        Raft in "":
        elections,
        replication,
        persistence,
        reads,
        transfer,
        membership,
        snapshots,
        forwarding,
        restart,
        gone,
    );
}

mod multi_paxos {
    scenarios!(
        MultiPaxos in "paxos/":
        phase1,
        phase2,
        leases,
        reconfiguration,
        catch_up,
        restart,
        gone,
    );
}
