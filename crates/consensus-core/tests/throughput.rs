//! How much CPU an entry costs in the cores of three nodes together. By hand, in release mode:
//! `cargo test --release -p synod-consensus-core --test throughput -- --ignored --nocapture`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use synod_consensus_core::{
    Consensus, CoreConfig, Input, Membership, Message, Proposal, Raft, Restored, Role, SnapshotMeta,
};
use synod_types::{Index, LogPosition, NodeId, RequestId, Tick};

struct Cluster {
    cores: BTreeMap<NodeId, Raft>,
    now: Tick,
    committed: usize,
}

impl Cluster {
    fn new() -> Self {
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
            let core = Raft::new(CoreConfig::new(id, id.get()), restored, Tick::ZERO);
            (id, core.unwrap())
        };
        Self {
            cores: ids.map(core).collect(),
            now: Tick::ZERO,
            committed: 0,
        }
    }

    /// Lets everyone do everything, with instant disks and network.
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

    fn leader(&mut self) -> &mut Raft {
        let leads = |core: &&mut Raft| core.status().role == Role::Leader;
        self.cores.values_mut().find(leads).unwrap()
    }
}

fn run(batch: usize, total: usize) {
    let mut cluster = Cluster::new();
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
    let before = cluster.committed;
    let now = cluster.now;
    #[expect(clippy::disallowed_methods, reason = "measures")]
    let start = Instant::now();
    for _ in 0..total / batch {
        let proposals = proposals.clone();
        cluster
            .leader()
            .step(now, Input::ProposeMany(proposals))
            .unwrap();
        cluster.settle();
    }
    let elapsed = start.elapsed();
    let count = cluster.committed - before;
    assert_eq!(count, total / batch * batch);
    assert!(
        cluster
            .cores
            .values()
            .all(|core| core.commit() > Index::ZERO)
    );
    let each = elapsed.as_nanos() / count as u128;
    println!("batches of {batch}: {each} ns an entry, all three nodes together");
}

#[test]
#[ignore = "measures"]
fn cpu_of_an_entry() {
    for batch in [1, 10, 100, 1000] {
        run(batch, 300_000);
    }
}

#[test]
fn a_group_commits_what_is_proposed() {
    run(10, 1000);
}
