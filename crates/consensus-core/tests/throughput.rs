//! Measures the CPU time per entry in the cores of three nodes together. Run it by hand in release
//! mode: `cargo test --release -p synod-consensus-core --test throughput -- --ignored --nocapture`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::collections::BTreeMap;

use bytes::Bytes;
use synod_consensus_core::{
    Algorithm, Consensus, CoreConfig, Input, Membership, Message, Proposal, Restored, Role,
    SnapshotMeta,
};
use synod_types::{Index, LogPosition, NodeId, RequestId, Tick};

struct Cluster {
    cores: BTreeMap<NodeId, Box<dyn Consensus>>,
    now: Tick,
    committed: usize,
}

impl Cluster {
    fn new(algorithm: Algorithm) -> Self {
        let ids = (1..=3).map(NodeId::new);
        let start = SnapshotMeta {
            last: LogPosition::ZERO,
            membership: Membership::of(ids.clone()),
        };
        let core = |id: NodeId| {
            let restored = Restored {
                start: start.clone(),
                applied: start.clone(),
                ..Restored::default()
            };
            let core = algorithm.start(CoreConfig::new(id, id.get()), restored, Tick::ZERO);
            (id, core.unwrap())
        };
        Self {
            cores: ids.map(core).collect(),
            now: Tick::ZERO,
            committed: 0,
        }
    }

    /// Runs all nodes until none has work, with instant disks and network.
    fn settle(&mut self) {
        let mut messages: Vec<Message> = Vec::new();
        loop {
            for (id, core) in &mut self.cores {
                while let Some(ready) = core.ready() {
                    messages.extend(ready.messages);
                    messages.extend(ready.messages_after_persist);
                    if !ready.writes.is_empty() {
                        core.step(self.now, Input::Persisted(ready.seq)).unwrap();
                    }
                    if let Some(last) = ready.committed.last() {
                        core.step(self.now, Input::Applied(last.index)).unwrap();
                        let keep = last.index.minus(5000);
                        core.step(self.now, Input::Compact(keep)).unwrap();
                        if id.get() == 1 {
                            self.committed += ready.committed.len();
                        }
                    }
                }
            }
            if messages.is_empty() {
                return;
            }
            for message in messages.drain(..) {
                let core = self.cores.get_mut(&message.to).unwrap();
                core.step(self.now, Input::Message(message)).unwrap();
            }
        }
    }

    fn leader(&self) -> NodeId {
        let mut cores = self.cores.iter();
        let leader = cores.find(|(_, core)| core.status().role == Role::Leader);
        *leader.unwrap().0
    }
}

/// This thread's CPU time, independent of other load; zero on systems other than Linux.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.map_or(0, |number| number.parse().unwrap())
}

fn run(algorithm: Algorithm, batch: usize, total: usize) {
    let mut cluster = Cluster::new(algorithm);
    cluster.now = Tick::new(1000);
    let first = cluster.cores.get_mut(&NodeId::new(1)).unwrap();
    first.step(Tick::new(1000), Input::Tick).unwrap();
    cluster.settle();
    let data = Bytes::from(vec![7; 100]);
    let proposals: Vec<Proposal> = (0..batch as u64)
        .map(|seq| Proposal {
            id: RequestId {
                node: NodeId::new(1),
                seq,
            },
            data: data.clone(),
        })
        .collect();
    let leader = cluster.leader();
    let before = cluster.committed;
    let now = cluster.now;
    let start = cpu_ns();
    for _ in 0..total / batch {
        let proposals = proposals.clone();
        cluster
            .cores
            .get_mut(&leader)
            .unwrap()
            .step(now, Input::ProposeMany(proposals))
            .unwrap();
        cluster.settle();
    }
    let elapsed = cpu_ns() - start;
    let count = cluster.committed - before;
    assert_eq!(count, total / batch * batch);
    assert!(
        cluster
            .cores
            .values()
            .all(|core| core.commit() > Index::ZERO)
    );
    let each = elapsed / count as u64;
    println!("{algorithm}, batches of {batch}: {each} ns an entry, all three nodes together");
}

#[test]
#[ignore = "measures"]
fn cpu_of_an_entry() {
    for algorithm in Algorithm::ALL {
        for batch in [1, 10, 64, 100, 1000] {
            run(algorithm, batch, 300_000);
        }
    }
}

#[test]
fn a_group_commits_what_is_proposed() {
    for algorithm in Algorithm::ALL {
        run(algorithm, 10, 1000);
    }
}
